//! EC2's and Systems Manager's clients, and the filters of their listings.

use std::ops::Deref;

use aws_sdk_ec2::{
    config::{
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction},
    },
    operation::run_instances::RunInstancesError,
    types::Filter,
};

use crate::{
    model::{ids::StackName, resource::ClaimLabels},
    provider::{
        ProviderError,
        aws::{
            access::Access,
            calls::Turns,
            failure::{self, Kind},
        },
    },
};

pub(super) use crate::provider::aws::calls::{Failed, Pages, pages};

/// The most rows of a page.
pub(super) const PAGE: i32 = 100;

/// The services of one account in one region.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) ec2: aws_sdk_ec2::Client,
    pub(super) ssm: aws_sdk_ssm::Client,
    turns: Turns,
}

impl Api {
    pub(super) fn new(access: &Access, concurrency: usize) -> Self {
        let ec2 = aws_sdk_ec2::config::Builder::from(&access.sdk)
            .retry_classifier(SoldOut)
            .build();
        Self {
            ec2: aws_sdk_ec2::Client::from_conf(ec2),
            ssm: aws_sdk_ssm::Client::new(&access.sdk),
            turns: Turns::new(concurrency),
        }
    }
}

impl Deref for Api {
    type Target = Turns;

    fn deref(&self) -> &Turns {
        &self.turns
    }
}

/// `Name=name,Values=values`
pub(super) fn filter<V: Into<String>>(name: &str, values: impl IntoIterator<Item = V>) -> Filter {
    let values = values.into_iter().map(Into::into).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// What carries a stack's label: this stack's, or any.
pub(super) fn labelled(stack: Option<&StackName>) -> Filter {
    match stack {
        Some(stack) => filter(&format!("tag:{}", ClaimLabels::STACK), [stack.as_str()]),
        None => filter("tag-key", [ClaimLabels::STACK]),
    }
}

/// Keeps the SDK from trying again where nothing was to be had: EC2 says so with status 500, which else is a passing trouble,
/// and the next offering may be bought at once.
#[derive(Debug)]
struct SoldOut;

impl ClassifyRetry for SoldOut {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err);
        let launch = error
            .and_then(|error| error.as_operation_error())
            .and_then(|error| error.downcast_ref::<RunInstancesError>());
        let Some(code) = launch.and_then(|error| error.meta().code()) else {
            return RetryAction::NoActionIndicated;
        };
        match failure::by_code(Kind::Write, code, String::new()) {
            ProviderError::NoCapacity { .. } | ProviderError::Quota { .. } => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "runfleet sold out"
    }
}
