//! What an error of Amazon's means, for every service alike.
//!
//! # Guarantees
//! - A write whose answer did not come is [`ProviderError::Ambiguous`]; only Amazon's own word, or a request that never left,
//!   makes it definite.
//! - No error holds a credential: what the SDK says of a request is never taken, only what the service answered.

use std::error::Error as _;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use crate::provider::ProviderError;

/// Codes of a place that has no machine to sell now (EC2 API reference, "Error codes": "Server error codes" and spot).
const NO_CAPACITY: [&str; 9] = [
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientReservedInstanceCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
    "UnfulfillableCapacity",
    "CapacityReservationNotFound",
];
/// Codes of an account that may have no more.
const QUOTA: [&str; 10] = [
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "MaxSpotFleetRequestCountExceeded",
    "AddressLimitExceeded",
    "SecurityGroupLimitExceeded",
    "RulesPerSecurityGroupLimitExceeded",
    "VolumeLimitExceeded",
    "LimitExceeded",
    "ResourceLimitExceeded",
];
/// Codes of too many requests.
const THROTTLED: [&str; 8] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "BandwidthLimitExceeded",
];
/// Codes of a key, a role or a right that is missing.
const UNAUTHORIZED: [&str; 15] = [
    "AuthFailure",
    "UnauthorizedOperation",
    "UnauthorizedAccess",
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "ExpiredToken",
    "ExpiredTokenException",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "OptInRequired",
    "Blocked",
    "BlockedException",
];
/// Codes of a service that cannot answer now; the request was not carried out.
const UNAVAILABLE: [&str; 6] = [
    "ServiceUnavailable",
    "Unavailable",
    "ServerInternal",
    "ScalingActivityInProgress",
    "ResourceContention",
    "ResourceInUse",
];

/// Whether a call could have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only reads.
    Read,
    /// It makes, changes or removes something.
    Write,
}

/// What an error of the SDK means.
pub fn of<E, R>(kind: Kind, error: &SdkError<E, R>) -> ProviderError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let code = meta.code().unwrap_or("Unknown");
            let why = meta.message().unwrap_or("no message").to_owned();
            by_code(kind, code, why)
        }
        // Nothing was sent.
        SdkError::ConstructionFailure(_) => unsent(words(error)),
        SdkError::DispatchFailure(_) => {
            let why = words(error);
            if is_credentials(&why) {
                return ProviderError::Unauthorized { why };
            }
            unanswered(kind, why)
        }
        SdkError::TimeoutError(_) => unanswered(kind, "no answer in time".to_owned()),
        _ => match kind {
            Kind::Read => ProviderError::Malformed {
                why: "an answer that the SDK could not read".to_owned(),
            },
            Kind::Write => ProviderError::Ambiguous {
                why: "an answer that the SDK could not read".to_owned(),
            },
        },
    }
}

/// What a code of Amazon's means. An unknown one of a server's failure leaves a write in doubt.
pub fn by_code(kind: Kind, code: &str, why: String) -> ProviderError {
    let why = if why.is_empty() { code.to_owned() } else { why };
    match code {
        _ if NO_CAPACITY.contains(&code) => ProviderError::NoCapacity { why },
        _ if QUOTA.contains(&code) => ProviderError::Quota { why },
        _ if THROTTLED.contains(&code) => ProviderError::Throttled { retry_after: None },
        _ if UNAUTHORIZED.contains(&code) => ProviderError::Unauthorized {
            why: format!("{code}: {why}"),
        },
        _ if UNAVAILABLE.contains(&code) => ProviderError::Unavailable {
            why: format!("{code}: {why}"),
        },
        // "The request processing has failed because of an unknown error": it may have been done.
        "InternalError" | "InternalFailure" | "ServerException" | "Unknown" => {
            unanswered(kind, format!("{code}: {why}"))
        }
        _ => ProviderError::Rejected {
            code: code.to_owned(),
            why,
        },
    }
}

fn unanswered(kind: Kind, why: String) -> ProviderError {
    match kind {
        Kind::Read => ProviderError::Unavailable { why },
        Kind::Write => ProviderError::Ambiguous { why },
    }
}

fn unsent(why: String) -> ProviderError {
    if is_credentials(&why) {
        ProviderError::Unauthorized { why }
    } else {
        ProviderError::Unavailable { why }
    }
}

/// Why a request did not come through, innermost last.
fn words<E, R>(error: &SdkError<E, R>) -> String
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // An outer error often says the inner one's words too.
        if !words.iter().any(|earlier| earlier.contains(&said)) {
            words.push(said);
        }
        next = cause.source();
    }
    if words.is_empty() {
        return "the request could not be sent".to_owned();
    }
    words.join(": ")
}

/// Whether the SDK found nothing that lets it in: its only sign of that is its words.
fn is_credentials(why: &str) -> bool {
    why.contains("credential") || why.contains("identity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Disposition;

    #[test]
    fn a_code_is_a_decision() {
        let of = |code| by_code(Kind::Write, code, "why".to_owned()).disposition();
        assert_eq!(of("InsufficientInstanceCapacity"), Disposition::NextRung);
        assert_eq!(of("VcpuLimitExceeded"), Disposition::NextRung);
        assert_eq!(of("RequestLimitExceeded"), Disposition::Retry);
        assert_eq!(of("InternalError"), Disposition::Relist);
        assert_eq!(of("ServerException"), Disposition::Relist);
        assert_eq!(of("UnauthorizedOperation"), Disposition::GiveUp);
        assert_eq!(of("InvalidAMIID.NotFound"), Disposition::GiveUp);
    }

    #[test]
    fn what_went_wrong_is_said_once_and_without_the_sdks_own_structures() {
        let inner = std::io::Error::other("failed to lookup address information");
        let outer = std::io::Error::other(inner);
        let error: SdkError<std::fmt::Error, ()> =
            SdkError::construction_failure(Box::new(outer) as Box<dyn std::error::Error + Send + Sync>);
        assert_eq!(words(&error), "failed to lookup address information");
    }

    #[test]
    fn a_read_that_failed_on_the_way_leaves_nothing_in_doubt() {
        let read = by_code(Kind::Read, "InternalError", String::new());
        assert_eq!(read.disposition(), Disposition::Retry);
    }
}
