//! What a program is asked: docs/schemas/ci-request.json.

use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde_json::Value;

use crate::model::{
    demand::PoolSelector,
    ids::{RegistrationId, StackName},
};

/// The version of requests and answers. It rises when a key changes its meaning.
pub(super) const VERSION: u32 = 1;

/// What a program of the stack file is handed on its input, or a URL in its body.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CiRequest")]
pub(super) struct Request<'a> {
    /// The version of this format: 1.
    format_version: u32,
    /// The stack. Its machines' names begin with it and a dash.
    pub(super) stack: &'a str,
    /// What is asked.
    #[serde(flatten)]
    pub(super) act: Act<'a>,
}

/// What is asked.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(super) enum Act<'a> {
    /// Which jobs there are. A URL is asked by GET, with `stack` and `cursor` in its query.
    Demand {
        /// The pools that jobs are wanted for.
        pools: Vec<PoolWords<'a>>,
        /// What the last answer's `cursor` was: finished jobs are told from there on.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a str>,
        /// Whether a machine's leaving waits for it.
        #[serde(skip)]
        leaving: bool,
    },
    /// Make a registration for one machine.
    Register {
        /// Its pool.
        pool: PoolWords<'a>,
        /// The machine's name in the cloud.
        machine: &'a str,
        /// The name with a mark of the stack's state. A runner whose `name` is this is known as this stack's when all else is lost.
        description: &'a str,
    },
    /// Keep a runner from taking new jobs. One that is not known takes none.
    Cordon {
        /// Its id.
        runner: &'a RegistrationId,
    },
    /// Let a runner take jobs again.
    Uncordon {
        /// Its id.
        runner: &'a RegistrationId,
    },
    /// Remove a registration. One that is not known is removed already.
    Forget {
        /// Its id.
        runner: &'a RegistrationId,
    },
}

/// A pool of the stack.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CiPool")]
pub(super) struct PoolWords<'a> {
    /// Its name.
    name: &'a str,
    /// What its runners offer.
    tags: &'a [String],
    /// Whether they take jobs without tags.
    run_untagged: bool,
}

impl<'a> PoolWords<'a> {
    pub(super) fn of(selector: &'a PoolSelector) -> Self {
        Self {
            name: selector.pool.as_str(),
            tags: &selector.tags,
            run_untagged: selector.run_untagged,
        }
    }
}

impl<'a> Request<'a> {
    pub(super) fn new(stack: &'a StackName, act: Act<'a>) -> Self {
        Self {
            format_version: VERSION,
            stack: stack.as_str(),
            act,
        }
    }

    /// Which call it is.
    pub(super) fn call(&self) -> Call {
        match self.act {
            Act::Demand { .. } => Call::Demand,
            Act::Register { .. } => Call::Register,
            Act::Cordon { .. } => Call::Cordon,
            Act::Uncordon { .. } => Call::Uncordon,
            Act::Forget { .. } => Call::Forget,
        }
    }

    /// Whether it goes first when requests are scarce: it leads to a machine's end, or ends its pause.
    pub(super) fn is_urgent(&self) -> bool {
        match self.act {
            Act::Demand { leaving, .. } => leaving,
            Act::Register { .. } => false,
            Act::Cordon { .. } | Act::Uncordon { .. } | Act::Forget { .. } => true,
        }
    }
}

/// One of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Demand,
    Register,
    Cordon,
    Uncordon,
    Forget,
}

impl Call {
    const ALL: [Self; 5] = [
        Self::Demand,
        Self::Register,
        Self::Cordon,
        Self::Uncordon,
        Self::Forget,
    ];

    /// By its word.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.as_str() == word)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::Register => "register",
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::Forget => "forget",
        }
    }
}

pub(super) fn schema() -> Value {
    schema_for!(Request<'static>).into()
}
