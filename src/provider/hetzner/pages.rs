//! Asks for a listing page by page.

use serde_json::Value;

use crate::{
    net::Request,
    provider::paging::{self, Position, Read},
};

use super::{
    api::{Api, Failed, decode},
    wire::{Page, Row},
};

pub(super) use crate::provider::paging::Pages;

/// The most rows that the API puts on a page.
const PER_PAGE: u64 = 50;

/// Every page of this listing.
///
/// # Errors
/// When the first page cannot be read; a later one makes it partial.
pub(super) async fn all<T: Row>(api: &Api, path: &str, query: &[(&str, &str)]) -> Result<Pages<T>, Failed> {
    let mut request = Request::get(path);
    for (key, value) in query {
        request = request.query(key, *value);
    }
    let request = &request.query("per_page", PER_PAGE.to_string());
    paging::all(
        path,
        PER_PAGE,
        |number| read(api, request, number),
        Failed::of_read,
    )
    .await
}

async fn read<T: Row>(api: &Api, request: &Request, number: u64) -> Result<Read<u64, T>, Failed> {
    let reply = api
        .call(request.clone().query("page", number.to_string()))
        .await?;
    let (rows, meta, not_understood) = if let Ok(page) = reply.json::<Page<T>>() {
        (page.rows, page.meta, None)
    } else {
        let page: Page<Value> = decode(&reply, &request.path)?;
        let (rows, why) = paging::row_by_row(page.rows);
        (rows, page.meta, why)
    };
    Ok(Read {
        rows: rows.into_iter().map(|row| (row.id(), row)).collect(),
        position: Position {
            page: Some(meta.pagination.page),
            next: meta.pagination.next_page,
            last: meta.pagination.last_page,
            total: meta.pagination.total_entries,
        },
        not_understood,
        date: reply.date,
    })
}
