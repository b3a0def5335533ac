//! boto3's look at what we made: Amazon's own client, in another process, straight at moto, as the third that must agree.

#![allow(clippy::print_stdout, reason = "a skip is told")]

use std::process::Stdio;

use serde_json::Value;

use super::layer::Layer;

impl Layer {
    /// What boto3 sees in moto, in this layer's account: `["instances", "--tag", "runfleet-stack=prod"]`, `["group", NAME]`,
    /// `["groups"]`. None where there is no boto3.
    pub async fn look(&self, what: &[&str]) -> Option<Value> {
        let moto = self.moto();
        let output =
            tokio::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/boto3_look.sh"))
                .args(["--endpoint", &moto.endpoint])
                .args(["--region", &moto.region])
                .args(["--account", &moto.account])
                .args(what)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()
                .await
                .unwrap();
        match output.status.code() {
            Some(0) => Some(serde_json::from_slice(&output.stdout).unwrap()),
            Some(77) => {
                println!("skipped: boto3, which must agree, cannot be had here");
                None
            }
            code => panic!("boto3_look.py {what:?} ended with {code:?}"),
        }
    }
}
