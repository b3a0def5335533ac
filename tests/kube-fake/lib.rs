//! The Kubernetes provider in process, against `kube-fake-client`: an in-memory API server that its own maintainers hold to
//! Kubernetes's behaviour (names that are taken, selectors, owners, merge patches).
//!
//! Run by `scripts/kube-fake`. What the fake does not have stands in front of it in [`layer`]: pages, the `Date` header, reviews of
//! rights, and faults to order. It has no controllers: a pod is put there by the test.

#![cfg(test)]

mod layer;
mod tests;
