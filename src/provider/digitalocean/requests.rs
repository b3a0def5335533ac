//! Requests of the `digitalocean-api` crate as our client sends them.
//!
//! The crate builds paths and bodies; its address is a constant and its sender knows no time-out, no retry and no header, so that
//! only what it built is taken: the path behind the version, the query and the body.

use digitalocean_api::{
    method::{Create, Delete, Get, List, Method as BuilderMethod, Update},
    request::Request as Built,
};
use http::Method;

use crate::net::Request;

/// The version in the crate's addresses; our base has it already.
const VERSION: &str = "/v2";

/// The HTTP method of a builder's.
pub(super) trait Verb: BuilderMethod {
    const VERB: Method;
}

impl Verb for Create {
    const VERB: Method = Method::POST;
}

impl Verb for Delete {
    const VERB: Method = Method::DELETE;
}

impl Verb for Get {
    const VERB: Method = Method::GET;
}

impl Verb for List {
    const VERB: Method = Method::GET;
}

impl Verb for Update {
    const VERB: Method = Method::PUT;
}

/// What the crate built.
pub(super) fn of<M: Verb, V>(built: &Built<M, V>) -> Request {
    let url = built.url();
    let path = url.path().strip_prefix(VERSION).unwrap_or(url.path());
    let mut request = Request::new(M::VERB, path);
    for (key, value) in url.query_pairs() {
        request = request.query(&key, value);
    }
    if !built.body().is_null() {
        request = request.json(built.body().clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use digitalocean_api::api::{Droplet, Tag};

    use super::*;

    #[test]
    fn path_query_body_and_method_are_what_the_crate_built() {
        let list = of(&Droplet::list_by_tag("runfleet-stack:prod"));
        assert_eq!((&list.method, list.path.as_str()), (&Method::GET, "/droplets"));
        assert_eq!(
            list.query,
            [("tag_name".to_owned(), "runfleet-stack:prod".to_owned())]
        );
        let untag = of(&Tag::get("a:b").remove_resources(vec![("1", "droplet")]));
        assert_eq!(
            (&untag.method, untag.path.as_str()),
            (&Method::DELETE, "/tags/a:b/resources")
        );
        let body = serde_json::json!({"resources": [{"resource_id": "1", "resource_type": "droplet"}]});
        assert_eq!(untag.body, Some(body));
    }
}
