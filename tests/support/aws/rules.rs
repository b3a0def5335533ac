//! Rules that a test lays down: the nth call of an action, perhaps with certain parameters, is refused, lost or answered.

use super::{errors::Refusal, wire::Asked};

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Effect {
    /// AWS refuses it; moto never hears of it.
    Refuse(Refusal),
    /// The connection closes; moto never hears of it.
    LoseRequest,
    /// moto does it, and the connection closes without the answer.
    LoseReply,
    /// This body, with status 200; moto never hears of it.
    Answer(String),
}

/// One rule. It strikes the calls that fit it, after it let `skip` of them pass, `count` times.
#[derive(Clone, Debug)]
pub struct Rule {
    action: String,
    when: Vec<(String, String)>,
    skip: u32,
    count: u32,
    effect: Effect,
}

impl Rule {
    /// Strikes the first call of that action.
    pub fn new(action: &str, effect: Effect) -> Self {
        Self {
            action: action.to_owned(),
            when: Vec::new(),
            skip: 0,
            count: 1,
            effect,
        }
    }

    pub fn refuse(action: &str, refusal: Refusal) -> Self {
        Self::new(action, Effect::Refuse(refusal))
    }

    pub fn lose_request(action: &str) -> Self {
        Self::new(action, Effect::LoseRequest)
    }

    pub fn lose_reply(action: &str) -> Self {
        Self::new(action, Effect::LoseReply)
    }

    pub fn answer(action: &str, body: impl Into<String>) -> Self {
        Self::new(action, Effect::Answer(body.into()))
    }

    /// Only calls where this holds; see [`Asked::facet`] for the keys.
    #[must_use]
    pub fn when(mut self, key: &str, value: &str) -> Self {
        self.when.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Beginning with the nth call that fits, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// That many times.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// For as long as the rule stands.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    fn fits(&self, asked: &Asked) -> bool {
        self.action == asked.action && self.when.iter().all(|(key, value)| asked.facet(key) == value)
    }
}

/// What strikes this call: the first rule that fits and has strikes left. Every rule that fits counts the call.
pub fn strike(rules: &mut [Rule], asked: &Asked) -> Option<Effect> {
    let mut struck = None;
    for rule in rules.iter_mut().filter(|rule| rule.fits(asked)) {
        if rule.skip > 0 {
            rule.skip -= 1;
        } else if rule.count > 0 && struck.is_none() {
            if rule.count != u32::MAX {
                rule.count -= 1;
            }
            struck = Some(rule.effect.clone());
        }
    }
    struck
}
