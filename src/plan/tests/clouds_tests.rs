//! One pool on several clouds: what is bought where, while others have nothing, are silent, or are too dear.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        money::{Currency, Money},
        offering::{Market, OfferingKey},
    },
    plan::{GuardRule, Rung},
    stack::Order,
};

/// One pool on Hetzner (1 cent an hour) and on a cloud `ocean` (1.2 cents), five jobs waiting, two to a machine.
fn two_clouds() -> World {
    let mut world = World::new().with_cloud("ocean", vec![offering("fra1", "s-4vcpu", "0.012 EUR")]);
    world.queue(5);
    world
}

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn ladders(plan: &Plan) -> Vec<&Vec<Rung>> {
    let creates = plan.actions.iter().filter_map(|action| match &action.verb {
        Verb::Create { ladder, .. } if action.address.pool.is_some() => Some(ladder),
        _ => None,
    });
    creates.collect()
}

/// The offerings of a ladder, as text.
fn offered(ladder: &[Rung]) -> Vec<String> {
    let offerings = ladder.iter().filter_map(|rung| rung.offering.as_ref());
    offerings.map(ToString::to_string).collect()
}

/// What is held about the pool, as text.
fn held(plan: &Plan) -> Vec<String> {
    let about = plan.held.iter().filter(|held| held.about == "linux");
    about.map(|held| held.reason.to_string()).collect()
}

/// How many machines on record each cloud has.
fn machines(world: &World) -> BTreeMap<String, usize> {
    let mut machines = BTreeMap::new();
    for record in world.snapshot.state.resources.values() {
        *machines.entry(record.provider.to_string()).or_default() += 1;
    }
    machines
}

#[test]
fn offerings_of_all_clouds_are_one_ladder_by_price() {
    let mut world = two_clouds();
    let plan = world.plan();
    let ladder = ["hetzner/nbg1 cx33", "hetzner/fsn1 cx33", "ocean/fra1 s-4vcpu"];
    assert_eq!(ladders(&plan).len(), 3);
    assert!(ladders(&plan).iter().all(|own| offered(own) == ladder));
    world.pool().offerings[1].priority = 0;
    world.pool().offerings[0].priority = 1;
    let overflow = ["ocean/fra1 s-4vcpu", "hetzner/nbg1 cx33", "hetzner/fsn1 cx33"];
    assert_eq!(offered(ladders(&world.plan())[0]), overflow);
}

#[test]
fn a_cloud_whose_answer_is_partial_drops_out_and_the_pool_grows_elsewhere_and_says_so() {
    let mut world = two_clouds();
    let lost = world.machine("brave-otter", -600, true);
    world.run("brave-otter");
    world.cloud().listing = crate::model::resource::Listing {
        resources: Vec::new(),
        completeness: Completeness::partial("not authorised: 401"),
        ..world.cloud().listing.clone()
    };
    let plan = world.plan();
    // Six jobs want three machines. The one on record counts, whether it is listed or not.
    assert_eq!(ladders(&plan).len(), 2);
    assert!(
        ladders(&plan)
            .iter()
            .all(|own| offered(own) == ["ocean/fra1 s-4vcpu"])
    );
    assert!(held(&plan).contains(&"nothing is bought of hetzner now: not authorised: 401".to_owned()));
    assert_eq!(plan.kept.len(), 1);
    assert!(!plan.complete);

    // The CI, whose answer is whole, does not hear from it: it does not serve, and exists for `max`.
    world.runner("brave-otter").online = Some(false);
    assert_eq!(ladders(&world.plan()).len(), 3);
    world.pool().max = 3;
    assert_eq!(ladders(&world.plan()).len(), 2);
    // What a partial CI says of it is no reason.
    world.ci().completeness = Completeness::partial("502");
    assert_eq!(ladders(&world.plan()).len(), 2);
    assert!(world.snapshot.state.resources.contains_key(&lost));
}

#[test]
fn an_offline_runner_of_a_cloud_that_answers_serves_as_it_did() {
    let mut world = two_clouds();
    world.machine("brave-otter", -600, true);
    world.run("brave-otter");
    world.runner("brave-otter").online = Some(false);
    assert_eq!(ladders(&world.plan()).len(), 2);
}

#[test]
fn while_a_cloud_of_the_pool_is_partial_nothing_of_it_shrinks_anywhere() {
    let mut world = World::new().with_cloud("ocean", vec![offering("fra1", "s-4vcpu", "0.012 EUR")]);
    for name in ["a-a", "b-b"] {
        world.machine(name, -3590, true);
    }
    world.learn();
    assert_eq!(world.plan().summary().delete, 2);
    world.cloud_of("ocean").listing.completeness = Completeness::partial("503");
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert!(codes(&plan).contains("partial_cloud"));
}

#[test]
fn where_no_cloud_answers_nothing_is_made_and_a_cloud_that_sells_nothing_is_no_answer() {
    let mut world = two_clouds();
    world.cloud().listing.completeness = Completeness::partial("502");
    world.cloud_of("ocean").offerings.clear();
    world.cloud_of("ocean").offerings_complete = Completeness::partial("504");
    let plan = world.plan();
    assert!(plan.is_noop());
    assert!(held(&plan).contains(&"nothing is bought of ocean now: 504".to_owned()));
    world.cloud_of("ocean").listing.completeness = Completeness::partial("503");
    let plan = world.plan();
    assert!(plan.is_noop());
    assert!(codes(&plan).contains("partial_cloud"));
}

#[test]
fn a_machine_that_we_paused_takes_jobs_again_only_where_its_cloud_is_seen() {
    let mut world = two_clouds();
    let address = world.machine("brave-otter", -600, true);
    cordon(&mut world, &address, -100);
    assert!(verbs(&world.plan()).contains(&"uncordon machine.linux/brave-otter".to_owned()));
    world.cloud().listing.completeness = Completeness::partial("502");
    let plan = world.plan();
    assert_eq!(verbs(&plan).len(), 3, "{:?}", verbs(&plan));
    assert_eq!(ladders(&plan).len(), 3);
}

#[test]
fn spot_falls_back_to_on_demand_within_the_tick_and_is_asked_first_again_later() {
    let mut spot = offering("nbg1", "cx33", "0.003 EUR");
    spot.key.market = Market::Spot;
    let mut world = World::new();
    world.cloud().offerings.push(spot.clone());
    let mut cheaper = choice("cx33", &["nbg1"]);
    cheaper.market = Market::Spot;
    world.pool().offerings = vec![choice("cx33", &["nbg1"]), cheaper];
    world.queue(3);
    let plan = world.plan();
    assert!(
        ladders(&plan)
            .iter()
            .all(|own| offered(own) == ["hetzner/nbg1 cx33 spot", "hetzner/nbg1 cx33"])
    );
    world.refused.offerings.insert(spot.key.clone());
    world.apply(&plan);
    let bought = |world: &World| {
        let records = world.snapshot.state.resources.values();
        records
            .filter(|record| record.offering().is_some_and(|key| key.market == Market::Spot))
            .count()
    };
    assert_eq!((machines(&world)["hetzner"], bought(&world)), (2, 0));
    world.snapshot.history.refusals.push(Refusal {
        offering: spot.key.clone(),
        at: at(0),
        quota: false,
    });
    world.refused = crate::placement::Refused::default();
    world.queue(6);
    // Remembered for five minutes, by then on-demand alone is asked.
    world.set_time(200);
    let plan = world.plan();
    assert!(
        ladders(&plan)
            .iter()
            .all(|own| offered(own) == ["hetzner/nbg1 cx33"])
    );
    assert!(codes(&plan).contains("capacity_refused"));
    // Later it is first again: one launch at a time, and the others do not wait for it.
    world.set_time(301);
    let plan = world.plan();
    assert_eq!(ladders(&plan).len(), 3);
    assert_eq!(offered(ladders(&plan)[0])[0], "hetzner/nbg1 cx33 spot");
    world.apply(&plan);
    assert_eq!((machines(&world)["hetzner"], bought(&world)), (5, 1));
}

#[test]
fn a_pool_that_is_spread_over_locations_goes_where_the_fewest_of_its_machines_are() {
    let mut world = two_clouds();
    world.pool().spread = Spread::Locations;
    world.pool().order = Order::Price;
    world.queue(5);
    let plan = world.plan();
    let first: Vec<String> = ladders(&plan).iter().map(|own| offered(own)[0].clone()).collect();
    let [nbg, fsn, fra] = ["hetzner/nbg1 cx33", "hetzner/fsn1 cx33", "ocean/fra1 s-4vcpu"];
    assert_eq!(first, [nbg, fsn, fra, nbg, fsn]);
    assert!(
        ladders(&plan).iter().all(|own| own.len() == 3),
        "and falls back to all others"
    );
    world.apply(&plan);
    world.queue(2);
    assert_eq!(offered(ladders(&world.plan())[0])[0], fra);
    // Another priority is another level: the spreading stays within the lower number.
    world.pool().offerings[1].priority = 1;
    assert_eq!(offered(ladders(&world.plan())[0]), [nbg, fsn, fra]);
    assert_eq!(groups(&world), 0, "no placement groups");
}

fn groups(world: &World) -> usize {
    let addresses = world.snapshot.state.resources.keys();
    addresses.filter(|address| address.kind.is_shared()).count()
}

fn in_euros(world: &mut World, rate: &str) {
    world.stack.currency.base = Some(Currency::new("EUR"));
    world.stack.currency.rates = BTreeMap::from([(Currency::new("USD"), rate.parse().unwrap())]);
}

#[test]
fn sums_are_in_the_base_currency_and_a_budget_counts_what_is_paid_in_another() {
    let mut world = World::new().with_cloud("ocean", vec![offering("fra1", "s-4vcpu", "0.010 USD")]);
    let address = world.machine("brave-otter", -600, true);
    world.record(&address).price = Some(price("0.020 USD"));
    world.run("brave-otter");
    let sums = |world: &mut World| world.plan().cost.before_hourly;
    assert_eq!(sums(&mut world), [money("0.02 USD")]);
    in_euros(&mut world, "0.9");
    world.queue(8);
    assert_eq!(sums(&mut world), [money("0.018 EUR")]);
    let plan = world.plan();
    assert_eq!(ladders(&plan).len(), 4);
    assert_eq!(
        offered(ladders(&plan)[0])[0],
        "ocean/fra1 s-4vcpu",
        "0.009 EUR against 0.010"
    );
    assert_eq!(
        plan.cost.after_hourly,
        [money("0.058 EUR")],
        "at the dearest rungs"
    );
    assert_eq!(plan.cost.after_hourly.len(), 1);
    // 0.0415 less 0.018 pays for one at 0.010 and one at 0.009, which Hetzner could not sell for it.
    world.stack.budget.hourly = Some("0.0375 EUR".parse().unwrap());
    let plan = world.plan();
    let ladders = ladders(&plan);
    assert_eq!(ladders.iter().map(|own| own.len()).collect::<Vec<_>>(), [3, 1]);
    assert!(
        held(&plan).contains(
            &"budget of 0.0375 EUR an hour has no room for 2 more: ocean/fra1 s-4vcpu would cost 0.009 EUR, 0.0005 EUR is left"
                .to_owned()
        ),
        "{:?}",
        held(&plan)
    );
}

/// The world begins at 2027-01-15 08:00 UTC: sixteen hours until the day's end, and 400 until the month's.
const UNTIL_MIDNIGHT: i64 = 16 * 3600;

#[test]
fn a_budget_of_a_day_has_room_for_what_runs_until_midnight() {
    let mut world = two_clouds();
    assert_eq!(at(UNTIL_MIDNIGHT).to_string(), "2027-01-16T00:00:00Z");
    // Each costs 0.16 EUR until midnight at Hetzner, 0.192 at the other.
    world.stack.budget.daily = Some(money("0.50 EUR"));
    world.pool().offerings.truncate(1);
    let plan = world.plan();
    assert_eq!(ladders(&plan).len(), 3);
    let projected = &plan.cost.projected[0];
    let comes_to = (&projected.spent, &projected.before, &projected.after);
    assert_eq!(comes_to, (&money("0 EUR"), &money("0 EUR"), &money("0.48 EUR")));
    world.stack.budget.daily = Some(money("0.40 EUR"));
    let plan = world.plan();
    assert_eq!(ladders(&plan).len(), 2);
    assert_eq!(
        held(&plan),
        [
            "budget of 0.40 EUR a day has no room for 1 more: hetzner/nbg1 cx33 would cost 0.16 EUR, 0.08 EUR is left"
        ]
    );
    // Half an hour before midnight the same money pays for it: half a cent.
    world.set_time(UNTIL_MIDNIGHT - 1800);
    assert_eq!(ladders(&world.plan()).len(), 3);
}

#[test]
fn what_is_owed_today_is_counted_and_a_new_day_begins_anew() {
    let mut world = World::new();
    world.pool().offerings = vec![choice("cx33", &["nbg1"])];
    world.stack.budget.daily = Some(money("0.17 EUR"));
    world.machine("brave-otter", -1800, true);
    world.run("brave-otter");
    world.learn();
    let spent = |world: &World| {
        let spend = &world.snapshot.history.spend;
        let sum = |spent: &Option<crate::model::state::Spent>| {
            let sums = &spent.as_ref().unwrap().sums;
            sums.first()
                .map_or("0".to_owned(), |sum| sum.amount.normalize().to_string())
        };
        (sum(&spend.day), sum(&spend.month))
    };
    assert_eq!(
        spent(&world),
        ("0.01".to_owned(), "0.01".to_owned()),
        "its first hour has started"
    );
    world.learn();
    assert_eq!(spent(&world).0, "0.01", "an hour is counted once");
    world.set_time(1801);
    world.learn();
    assert_eq!(spent(&world).0, "0.02");
    // What is gone stays spent: 15.5 hours at one cent do not fit beside it.
    let address = Address::machine(&"linux".into(), &"brave-otter".into());
    world.snapshot.state.resources.remove(&address);
    world.cloud().listing.resources.clear();
    world.ci().runners.clear();
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.queue(1);
    let plan = world.plan();
    assert!(ladders(&plan).is_empty());
    assert_eq!(plan.cost.projected[0].spent, money("0.02 EUR"));
    world.set_time(3700);
    assert_eq!(ladders(&world.plan()).len(), 1, "14 h 58 min do");
    world.set_time(UNTIL_MIDNIGHT);
    world.stack.budget.daily = Some(money("0.24 EUR"));
    assert_eq!(ladders(&world.plan()).len(), 1);
    assert_eq!(spent(&world), ("0".to_owned(), "0.02".to_owned()));
}

#[test]
fn a_budget_of_a_month_knows_the_cap_on_a_month() {
    let mut world = two_clouds();
    world.pool().offerings.truncate(1);
    for offering in &mut world.cloud().offerings {
        offering.price.monthly_cap = Some(money("3 EUR"));
    }
    // 400 hours at one cent are 4 EUR, of which at most 3 are paid.
    world.stack.budget.monthly = Some(money("9 EUR"));
    assert_eq!(ladders(&world.plan()).len(), 3);
    world.stack.budget.monthly = Some(money("8.99 EUR"));
    assert_eq!(ladders(&world.plan()).len(), 2);
}

#[test]
fn the_history_is_lost_and_what_runs_is_counted_from_its_creation() {
    let mut world = World::new();
    world.by_second();
    world.machine("brave-otter", -7200, true);
    world.run("brave-otter");
    world.learn();
    let day = |world: &World| world.snapshot.history.spend.day.clone().unwrap().sums;
    assert_eq!(day(&world), [money("0.02 EUR")]);
    world.snapshot.history = History::default();
    world.set_time(3600);
    world.learn();
    assert_eq!(day(&world), [money("0.03 EUR")]);
}

#[test]
fn no_machine_leaves_for_money_and_a_day_that_began_too_full_stops_no_plan() {
    let mut world = World::new();
    for name in ["a-a", "b-b", "c-c"] {
        world.machine(name, -600, true);
        world.run(name);
    }
    world.stack.budget.daily = Some(money("0.20 EUR"));
    world.queue(5);
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert!(plan.breaches.is_empty());
    assert!(codes(&plan).contains("budget_reached"));
    // A plan made for a fuller purse is refused by its guard.
    let mut saved = plan.cost.clone();
    saved.projected[0].after = money("9 EUR");
    let breaches = super::super::guard::breaches(
        &[],
        &saved,
        &world.snapshot.state,
        &world.stack,
        Goal::Converge,
        &super::super::Selection::default(),
    );
    assert_eq!(breaches[0].rule, GuardRule::Budget);
    assert_eq!(
        breaches[0].what,
        "comes to 9 EUR a day with it; budget.daily allows 0.20 EUR"
    );
}

#[test]
fn lengths_of_jobs_are_learnt_by_machine_type_and_bounded() {
    let mut world = World::new();
    world.machine("brave-otter", -600, true);
    for _ in 0..4 {
        world.finished("brave-otter", 0, 60);
    }
    world.finished("somebody-else", 0, 900);
    world.learn();
    let learnt = &world.snapshot.history.job_lengths;
    assert_eq!(learnt.len(), 1);
    let length = learnt["build"]["hetzner cx33"];
    assert_eq!((length.jobs, length.seconds), (4, 240));
    world.learn();
    assert_eq!(
        world.snapshot.history.job_lengths["build"]["hetzner cx33"], length,
        "each job once"
    );
    let mut many = length;
    for _ in 0..1000 {
        many.add(10);
    }
    assert!(
        many.jobs <= History::JOBS_COUNTED && many.mean() < 11.into(),
        "{many:?}"
    );
}

/// Three clouds in two currencies, some of which do not answer, sell nothing, or refused lately.
#[derive(Clone, Debug)]
struct Mixed {
    queued: u32,
    max: u32,
    /// By cloud: partial, no offerings, seconds since a refusal, cents an hour, priority.
    clouds: [(bool, bool, Option<i64>, u32, u32); 3],
    hourly: Option<u32>,
    daily: Option<u32>,
    rate: bool,
    spread: bool,
    /// Age and cloud.
    machines: Vec<(i64, usize)>,
}

fn mixed() -> impl Strategy<Value = Mixed> {
    let cloud = || {
        (
            prop::bool::weighted(0.3),
            prop::bool::weighted(0.1),
            prop::option::of(0_i64..600),
            1_u32..9,
            0_u32..2,
        )
    };
    (
        (0_u32..20, 0_u32..8),
        [cloud(), cloud(), cloud()],
        (prop::option::of(0_u32..60), prop::option::of(0_u32..900)),
        (any::<bool>(), any::<bool>()),
        prop::collection::vec((0_i64..90_000, 0_usize..3), 0..6),
    )
        .prop_map(
            |((queued, max), clouds, (hourly, daily), (rate, spread), machines)| Mixed {
                queued,
                max,
                clouds,
                hourly,
                daily,
                rate,
                spread,
                machines,
            },
        )
}

fn build_mixed(mixed: &Mixed) -> World {
    const NAMES: [&str; 3] = ["hetzner", "ocean", "ec2"];
    let mut world = World::new();
    world.pool().offerings.clear();
    world.cloud().offerings.clear();
    for (name, (_, nothing, refused, cents, priority)) in NAMES.into_iter().zip(mixed.clouds) {
        let currency = if name == "ec2" { "USD" } else { "EUR" };
        let mut sold = offering("x", "t", &format!("0.0{cents} {currency}"));
        sold.key.provider = name.into();
        world = if name == "hetzner" {
            world.pool().offerings.push(choice("t", &["x"]));
            world.cloud().offerings.push(sold.clone());
            world
        } else {
            world.with_cloud(name, vec![sold.clone()])
        };
        world.pool().offerings.last_mut().unwrap().priority = priority;
        if nothing {
            world.cloud_of(name).offerings.clear();
        }
        let at = refused.map(|ago| at(-ago));
        world.snapshot.history.refusals.extend(at.map(|at| Refusal {
            offering: sold.key,
            at,
            quota: false,
        }));
    }
    for (index, (age, cloud)) in mixed.machines.iter().enumerate() {
        let name = format!("m{index}");
        let address = world.machine(&name, -age, true);
        world.run(&name);
        let seen = world.cloud().listing.resources.pop().unwrap();
        let provider = NAMES[*cloud];
        let record = world.record(&address);
        record.provider = provider.into();
        let mut seen = seen;
        seen.target.provider = provider.into();
        world.cloud_of(provider).listing.resources.push(seen);
    }
    for (name, (partial, ..)) in NAMES.into_iter().zip(mixed.clouds) {
        if partial {
            let listing = &mut world.cloud_of(name).listing;
            listing.completeness = Completeness::partial("502");
            listing.resources.clear();
        }
    }
    if mixed.rate {
        in_euros(&mut world, "0.9");
    }
    let cents = |cents: u32| money(&format!("{}.{:02} EUR", cents / 100, cents % 100));
    world.stack.budget.hourly = mixed.hourly.map(cents);
    world.stack.budget.daily = mixed.daily.map(cents);
    world.pool().max = mixed.max;
    // What runs was made from something else, and is not made anew here.
    world.pool().keeping.roll = crate::stack::Share::Number(0);
    if mixed.spread {
        world.pool().spread = Spread::Locations;
    }
    world.queue(mixed.queued);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn on_any_clouds_what_is_made_is_allowed_and_nothing_that_can_be_had_is_left(mixed in mixed()) {
        let mut world = build_mixed(&mixed);
        let plan = world.plan();
        let violations = crate::plan::invariants::check(&plan, &world.snapshot, &world.stack);
        prop_assert!(violations.is_empty(), "{:?}", violations);
        let made = ladders(&plan);
        let alive = mixed.machines.len();
        prop_assert!(made.is_empty() || made.len() + alive <= usize::try_from(mixed.max).unwrap());
        for ladder in &made {
            for key in ladder.iter().filter_map(|rung| rung.offering.as_ref()) {
                prop_assert!(world.cloud_of(key.provider.as_str()).listing.completeness.is_complete());
                let lately = |refusal: &Refusal| refusal.offering == *key && refusal.at > at(-300);
                prop_assert!(!world.snapshot.history.refusals.iter().any(lately), "asked before its time");
            }
        }
        // What is missing is missing for a reason that is told.
        let missing = usize::try_from(plan.pools[0].target.saturating_sub(plan.pools[0].serving)).unwrap();
        prop_assert!(made.len() <= missing);
        prop_assert!(made.len() == missing || !plan.held.is_empty(), "{:?}", plan.pools[0]);
        // A pool that may buy of a whole cloud that sells it and did not refuse is given something, but for money and max.
        let open = |at: usize| {
            let (partial, nothing, refused, ..) = mixed.clouds[at];
            !partial && !nothing && refused.is_none() && (at < 2 || mixed.rate)
        };
        if missing > 0 && mixed.hourly.is_none() && mixed.daily.is_none() && (0..3).any(open) {
            let room = usize::try_from(mixed.max).unwrap().saturating_sub(alive);
            prop_assert_eq!(made.len(), missing.min(room));
        }
        let key = |ladder: &[Rung]| -> Vec<OfferingKey> { ladder.iter().filter_map(|rung| rung.offering.clone()).collect() };
        let again = world.decide(Goal::Converge);
        let again = ladders(&again);
        prop_assert_eq!(made.len(), again.len());
        prop_assert!(made.iter().zip(again).all(|(one, other)| key(one) == key(other)));
    }
}
