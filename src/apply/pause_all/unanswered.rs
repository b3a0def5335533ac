//! What became of a machine whose delete was not answered, while its CI is paused.

use std::{mem, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::gate::DELETE_ROOM;
use crate::{
    apply::retire::{Sent, send_delete},
    model::resource::{CloudStatus, ResourceRef},
    provider::Provider,
};

/// Between two readings of a machine whose delete was not answered.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of a machine whose delete was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is gone, or going.
    Gone,
    /// It stays: the delete has not taken effect, and will not.
    Stays,
    /// Neither.
    Nothing,
}

/// Reads the machine, and sends the delete once more, until one of them tells or the time is over.
pub(super) async fn find_out(provider: &dyn Provider, target: &ResourceRef, end: Instant) -> Known {
    let settle = provider.profile().settle.unsigned_abs();
    let mut last_try = Instant::now();
    let mut again = true;
    loop {
        let begun = Instant::now();
        match timeout_at(end, provider.read(target)).await {
            Ok(Ok(None)) => return Known::Gone,
            Ok(Ok(Some(seen))) if is_leaving(&seen.status) => return Known::Gone,
            Ok(Ok(Some(_))) if begun >= last_try + settle => return Known::Stays,
            Ok(_) | Err(_) => {}
        }
        if Instant::now() + LOOK >= end {
            return Known::Nothing;
        }
        if mem::take(&mut again) {
            // That this one is refused says nothing of the first.
            match send_delete(provider, target, (Instant::now() + DELETE_ROOM).min(end)).await {
                Sent::Done => return Known::Gone,
                Sent::Refused(_) => {}
                Sent::Unknown(_) => last_try = Instant::now(),
            }
        }
        tokio::time::sleep_until((Instant::now() + LOOK).min(end)).await;
    }
}

fn is_leaving(status: &CloudStatus) -> bool {
    matches!(
        status,
        CloudStatus::Deleting | CloudStatus::Ended(_) | CloudStatus::Terminated(_)
    )
}
