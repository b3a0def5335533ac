//! The calls to Amazon that change something.
//!
//! # Guarantees
//! - What takes a member out of its group is sent once: sent twice, it could take the group's size down by two. It is sent
//!   again only after Amazon said that it throttled the first.
//! - All others may be sent twice, and are by the SDK: they set something to what it should be.

use std::time::Duration;

use aws_smithy_types::retry::RetryConfig;
use backon::{ExponentialBuilder, Retryable};

use crate::provider::{
    ProviderError,
    aws::{
        Clock,
        failure::{self, Kind},
    },
};

use super::api::{Api, LEAVING, send};

/// Instances of one `SetInstanceProtection` (API reference: 50).
const PROTECTED: usize = 50;

impl Api {
    /// Keeps the group from ending these members by itself, or no longer keeps it.
    pub(super) async fn protect(
        &self,
        group: &str,
        ids: &[String],
        on: bool,
        clock: &Clock,
    ) -> Result<(), ProviderError> {
        for ids in ids.chunks(PROTECTED) {
            let call = self
                .groups
                .set_instance_protection()
                .auto_scaling_group_name(group)
                .set_instance_ids(Some(ids.to_vec()))
                .protected_from_scale_in(on);
            send!(self, Kind::Write, clock, call)?;
        }
        Ok(())
    }

    /// Sets how many members the group should have, unless it cools down.
    pub(super) async fn set_size(&self, group: &str, size: u32, clock: &Clock) -> Result<(), ProviderError> {
        let size = i32::try_from(size).map_err(|_| ProviderError::Rejected {
            code: "size".to_owned(),
            why: format!("a group of {size} members"),
        })?;
        let call = self
            .groups
            .set_desired_capacity()
            .auto_scaling_group_name(group)
            .desired_capacity(size)
            .honor_cooldown(true);
        send!(self, Kind::Write, clock, call).map(drop)
    }

    /// Ends a member, and takes the group's size down by one.
    pub(super) async fn terminate_in_group(&self, id: &str, clock: &Clock) -> Result<(), ProviderError> {
        self.once(|| async {
            let _turn = self.turn().await;
            let call = self
                .groups
                .terminate_instance_in_auto_scaling_group()
                .instance_id(id)
                .should_decrement_desired_capacity(true);
            let call = call
                .customize()
                .config_override(unrepeated())
                .interceptor(clock.clone());
            let answer = call.send().await;
            answer.map(drop).map_err(|error| failure::of(Kind::Write, &error))
        })
        .await
    }

    /// Takes a member out of its group, and the group's size down by one. It runs on.
    pub(super) async fn detach(&self, group: &str, id: &str, clock: &Clock) -> Result<(), ProviderError> {
        self.once(|| async {
            let _turn = self.turn().await;
            let call = self
                .groups
                .detach_instances()
                .auto_scaling_group_name(group)
                .instance_ids(id)
                .should_decrement_desired_capacity(true);
            let call = call
                .customize()
                .config_override(unrepeated())
                .interceptor(clock.clone());
            let answer = call.send().await;
            answer.map(drop).map_err(|error| failure::of(Kind::Write, &error))
        })
        .await
    }

    /// Sends it again only where it was throttled, and so certainly not carried out.
    async fn once<F>(&self, call: impl Fn() -> F) -> Result<(), ProviderError>
    where
        F: Future<Output = Result<(), ProviderError>>,
    {
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(usize::try_from(self.retries).unwrap_or(usize::MAX))
            .with_jitter();
        call.retry(waits)
            .when(|error| matches!(error, ProviderError::Throttled { .. }))
            .await
    }

    /// Writes on an instance that it is leaving this group.
    pub(super) async fn tag_leaving(
        &self,
        id: &str,
        group: &str,
        clock: &Clock,
    ) -> Result<(), ProviderError> {
        let tag = aws_sdk_ec2::types::Tag::builder().key(LEAVING).value(group);
        let call = self.ec2.create_tags().resources(id).tags(tag.build());
        send!(self, Kind::Write, clock, call).map(drop)
    }

    /// Ends an instance that is in no group any more. One that is gone is ended.
    pub(super) async fn terminate(&self, id: &str, clock: &Clock) -> Result<(), ProviderError> {
        let call = self.ec2.terminate_instances().instance_ids(id);
        match send!(self, Kind::Write, clock, call) {
            Err(ProviderError::Rejected { code, .. }) if code == "InvalidInstanceID.NotFound" => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Stops a process of Amazon's on the group.
    pub(super) async fn suspend(
        &self,
        group: &str,
        process: &str,
        clock: &Clock,
    ) -> Result<(), ProviderError> {
        let call = self
            .groups
            .suspend_processes()
            .auto_scaling_group_name(group)
            .scaling_processes(process);
        send!(self, Kind::Write, clock, call).map(drop)
    }

    /// Lets that process go on.
    pub(super) async fn resume(
        &self,
        group: &str,
        process: &str,
        clock: &Clock,
    ) -> Result<(), ProviderError> {
        let call = self
            .groups
            .resume_processes()
            .auto_scaling_group_name(group)
            .scaling_processes(process);
        send!(self, Kind::Write, clock, call).map(drop)
    }
}

fn unrepeated() -> aws_sdk_autoscaling::config::Builder {
    aws_sdk_autoscaling::config::Builder::new().retry_config(RetryConfig::disabled())
}
