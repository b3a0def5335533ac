//! What has been spent today and this month: counted at each tick, for the budgets of a day and a month.
//!
//! A machine is charged until it is paid by its cloud's billing: a started hour when it starts, seconds as they pass. What a
//! machine costs between the last tick that saw it and its end is not counted: less than a tick's length. When the history
//! is lost, what is on record is charged anew from its creation; what had gone by then is forgotten, and the hourly budget
//! bounds what that can come to.

use jiff::Timestamp;

use crate::{
    model::{
        money::{Billing, Period},
        state::{History, Spent},
    },
    plan::facts::Facts,
};

/// Charges everything on record until now.
pub(super) fn spend(history: &mut History, facts: &Facts<'_>) {
    let now = facts.snapshot.now;
    let ((day, day_end), (month, month_end)) = (Period::Day.around(now), Period::Month.around(now));
    let begin = |spent: &mut Option<Spent>, since: Timestamp| {
        let known = spent.take().filter(|spent| spent.since == since);
        known.unwrap_or_else(|| Spent::since(since))
    };
    let mut today = begin(&mut history.spend.day, day);
    let mut this_month = begin(&mut history.spend.month, month);
    for (address, record) in &facts.snapshot.state.resources {
        let priced = record.price.as_ref();
        let price = priced.or_else(|| facts.price(record.offering()?, true));
        let (Some(price), Some(memory)) = (price, history.machines.get_mut(address)) else {
            continue;
        };
        // Perhaps gone already: nothing more is charged until a listing has it again.
        if memory.missing_since.is_some() {
            continue;
        }
        let billing = facts.snapshot.clouds.get(&record.provider);
        let billing = billing.map_or(Billing::StartedHour, |cloud| cloud.profile.billing);
        // What is paid of tomorrow already is tomorrow's.
        let until = billing
            .paid_until(record.created_at, now, Some(price.hourly.amount))
            .min(day_end);
        let from = memory.charged_until.unwrap_or(record.created_at);
        if until <= from {
            continue;
        }
        for (spent, begun, ends) in [(&mut today, day, day_end), (&mut this_month, month, month_end)] {
            let (from, to) = (from.max(begun), until.min(ends));
            spent.add(&price.charge(record.created_at, month, from, to));
        }
        memory.charged_until = Some(until);
    }
    history.spend.day = Some(today);
    history.spend.month = Some(this_month);
}
