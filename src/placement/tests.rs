//! Tests of the ladder.

use proptest::prelude::*;

use super::*;
use crate::{
    model::resource::ResourceSpec,
    plan::testing::{World, at, choice, key, offering, pool, price, secs},
};

fn rung(offering: Option<OfferingKey>) -> Rung {
    Rung {
        offering,
        provider: "hetzner".into(),
        price: None,
        hash: "h".into(),
        spec: ResourceSpec::Machine(World::spec("linux", "a")),
        needs: Vec::new(),
    }
}

fn sold_out(offerings: &[OfferingKey]) -> Refused {
    Refused {
        offerings: offerings.iter().cloned().collect(),
        ..Refused::default()
    }
}

fn ladder() -> Vec<Rung> {
    [key("nbg1", "cx33"), key("fsn1", "cx33"), key("nbg1", "cx43")]
        .map(|key| rung(Some(key)))
        .to_vec()
}

#[test]
fn the_next_rung_is_the_first_that_has_not_refused() {
    let none = LaunchBudgets::default();
    let ladder = ladder();
    let mut refused = Refused::default();
    for at in 0..ladder.len() {
        assert_eq!(next(&ladder, &refused, &none), Some(at));
        refused.offerings.extend(ladder[at].offering.clone());
    }
    assert_eq!(next(&ladder, &refused, &none), None);
    assert_eq!(next(&[rung(None)], &refused, &none), Some(0));
    assert_eq!(next(&[], &Refused::default(), &none), None);
    refused.providers.insert("hetzner".into());
    assert_eq!(next(&[rung(None)], &refused, &none), None, "its cloud said no");
}

#[test]
fn a_launch_budget_is_used_up_and_the_next_rung_asked() {
    let ladder = ladder();
    let first = key("nbg1", "cx33");
    let mut budgets = LaunchBudgets::default();
    budgets.take(&first);
    assert_eq!(budgets.left(&first), None);
    budgets.limit(&first, 2);
    budgets.limit(&first, 5);
    assert_eq!(budgets.left(&first), Some(2));
    budgets.take(&first);
    assert_eq!(next(&ladder, &Refused::default(), &budgets), Some(0));
    budgets.take(&first);
    assert_eq!(next(&ladder, &Refused::default(), &budgets), Some(1));
    budgets.take(&first);
    assert_eq!(budgets.left(&first), Some(0));
    assert_eq!(LaunchBudgets::of(&budgets.to_map()), budgets);
    assert_eq!(
        budgets.to_map(),
        BTreeMap::from([("hetzner/nbg1 cx33".to_owned(), 0)])
    );
    budgets.limit(&key("fsn1", "cx33"), 0);
    assert_eq!(next(&ladder, &sold_out(&[key("nbg1", "cx43")]), &budgets), None);
}

fn rate(offered: &[Offering], pool: &Pool, currency: Option<&str>) -> (Vec<String>, Vec<String>) {
    let known = Known {
        currency: currency.map(Currency::new),
        ..Known::default()
    };
    known.rate(offered, pool)
}

/// What prices are compared with.
#[derive(Default)]
struct Known {
    currencies: Currencies,
    currency: Option<Currency>,
    lengths: BTreeMap<String, BTreeMap<String, JobLength>>,
}

impl Known {
    fn scale(&self) -> Scale<'_> {
        Scale {
            currencies: &self.currencies,
            currency: self.currency.as_ref(),
            lengths: &self.lengths,
        }
    }

    fn rate(&self, offered: &[Offering], pool: &Pool) -> (Vec<String>, Vec<String>) {
        let offerings = offered.iter().map(|offering| (&offering.key, offering)).collect();
        let (rated, passed) = options(pool, &offerings, &BTreeSet::new(), self.scale());
        let keys = rated.iter().map(|rated| rated.offering.key.to_string()).collect();
        (keys, passed.iter().map(ToString::to_string).collect())
    }

    /// Jobs of this name ran so long on each type, in seconds.
    fn ran(&mut self, name: &str, lengths: &[(&str, &[i64])]) {
        for (machine_type, lengths) in lengths {
            let on = self.lengths.entry(name.to_owned()).or_default();
            let length = on.entry(format!("hetzner {machine_type}")).or_default();
            lengths.iter().for_each(|seconds| length.add(*seconds));
        }
    }
}

#[test]
fn the_cheapest_comes_first_then_as_declared_and_the_sold_out_last() {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![choice("b", &["y", "x"]), choice("a", &["x"]), choice("c", &[])];
    let mut sold_out = offering("z", "c", "0.001 EUR");
    sold_out.available = Some(false);
    let mut there = offering("y", "c", "0.020 EUR");
    there.available = Some(true);
    let offered = [
        offering("x", "a", "0.010 EUR"),
        offering("x", "b", "0.010 EUR"),
        offering("y", "b", "0.010 EUR"),
        offering("x", "c", "0.005 EUR"),
        there,
        sold_out,
    ];
    let (keys, passed) = rate(&offered, &pool, None);
    let wished = ["x c", "y b", "x b", "x a", "y c", "z c"].map(|key| format!("hetzner/{key}"));
    assert_eq!(keys, wished);
    assert!(passed.is_empty());
}

#[test]
fn the_address_decides_the_price() {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![choice("a", &["x"])];
    let mut offered = offering("x", "a", "0.010 EUR");
    offered.price_without_ipv4 = price("0.009 EUR");
    let offerings = BTreeMap::from([(&offered.key, &offered)]);
    let known = Known::default();
    let first = |pool: &Pool| {
        options(pool, &offerings, &BTreeSet::new(), known.scale()).0[0]
            .price
            .clone()
    };
    assert_eq!(first(&pool), price("0.010 EUR"));
    pool.offerings[0].public_ipv4 = false;
    assert_eq!(first(&pool), price("0.009 EUR"));
}

#[test]
fn another_market_type_or_provider_is_not_bought() {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![choice("a", &[])];
    let mut spot = offering("x", "a", "0.001 EUR");
    spot.key.market = crate::model::offering::Market::Spot;
    let mut other = offering("x", "a", "0.001 EUR");
    other.key.provider = "other".into();
    let offered = [spot, other, offering("x", "b", "0.001 EUR")];
    assert_eq!(
        rate(&offered, &pool, None),
        (vec![], vec!["no offering: hetzner does not sell a".to_owned()])
    );
    pool.offerings = vec![choice("a", &["q"])];
    assert_eq!(
        rate(&offered, &pool, None).1,
        ["no offering: hetzner/q a is not sold"]
    );
}

#[test]
fn what_has_no_rate_is_passed_over_and_says_what_to_type() {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![choice("a", &["x"]), choice("b", &["x"])];
    let offered = [offering("x", "a", "0.010 EUR"), offering("x", "b", "0.001 USD")];
    let (keys, passed) = rate(&offered, &pool, None);
    assert_eq!((keys.len(), keys[0].as_str()), (1, "hetzner/x a"));
    assert_eq!(
        passed,
        [
            "hetzner/x b is priced in USD, not EUR: say what one is worth, [currency] base = \"EUR\", rates = { USD = \"…\" }"
        ]
    );
    assert_eq!(rate(&offered, &pool, Some("USD")).0, ["hetzner/x b"]);
}

#[test]
fn prices_of_several_currencies_are_compared_by_their_rate() {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![choice("a", &["x"]), choice("b", &["x"])];
    let offered = [offering("x", "a", "0.010 EUR"), offering("x", "b", "0.0105 USD")];
    let known = |rate: &str| Known {
        currencies: Currencies {
            base: Some(Currency::new("EUR")),
            rates: BTreeMap::from([(Currency::new("USD"), rate.parse().unwrap())]),
        },
        currency: Some(Currency::new("EUR")),
        lengths: BTreeMap::new(),
    };
    assert_eq!(
        known("0.92").rate(&offered, &pool).0,
        ["hetzner/x b", "hetzner/x a"]
    );
    assert_eq!(
        known("0.96").rate(&offered, &pool).0,
        ["hetzner/x a", "hetzner/x b"]
    );
    assert!(known("0.92").rate(&offered, &pool).1.is_empty());
}

/// A small machine at 1 cent and a large one, of four times its processors, at 3.
fn small_and_large() -> (Pool, [Offering; 2]) {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![choice("small", &["x"]), choice("large", &["x"])];
    let mut offered = [
        offering("x", "small", "0.010 EUR"),
        offering("x", "large", "0.030 EUR"),
    ];
    (offered[0].cpus, offered[1].cpus) = (2, 8);
    (pool, offered)
}

#[test]
fn the_work_is_compared_by_processor_until_its_lengths_are_known_on_every_type() {
    let (mut pool, offered) = small_and_large();
    let large_first = ["hetzner/x large", "hetzner/x small"];
    let small_first = ["hetzner/x small", "hetzner/x large"];
    let mut known = Known::default();
    let first = |known: &Known, pool: &Pool| known.rate(&offered, pool).0;
    assert_eq!(
        first(&known, &pool),
        large_first,
        "0.00375 a processor against 0.005"
    );
    known.ran("build", &[("small", &[600, 600, 600])]);
    assert_eq!(
        first(&known, &pool),
        large_first,
        "nothing is known of the large one"
    );
    known.ran("build", &[("large", &[300, 300])]);
    assert_eq!(first(&known, &pool), large_first, "two jobs are too few");
    known.ran("build", &[("large", &[300])]);
    assert_eq!(
        first(&known, &pool),
        small_first,
        "half the time at three times the price"
    );
    // A job that only one of them ran says nothing.
    known.ran("deploy", &[("small", &[9000; 10])]);
    assert_eq!(first(&known, &pool), small_first);
    known.ran("test", &[("small", &[900; 10]), ("large", &[100; 10])]);
    assert_eq!(first(&known, &pool), large_first, "what runs most weighs most");
    pool.order = Order::Price;
    assert_eq!(first(&known, &pool), small_first);
}

#[test]
fn a_lower_priority_number_comes_first_whatever_it_costs_and_the_sold_out_last_within_it() {
    let mut pool = pool("linux", &[]);
    pool.offerings = vec![
        choice("cheap", &["x"]),
        choice("a", &["x", "y"]),
        choice("b", &["x"]),
    ];
    pool.offerings[0].priority = 7;
    let mut sold_out = offering("y", "a", "0.001 EUR");
    sold_out.available = Some(false);
    let offered = [
        offering("x", "cheap", "0.0001 EUR"),
        offering("x", "a", "0.030 EUR"),
        sold_out,
        offering("x", "b", "0.020 EUR"),
    ];
    let wished = ["x b", "x a", "y a", "x cheap"].map(|key| format!("hetzner/{key}"));
    assert_eq!(rate(&offered, &pool, None).0, wished);
}

#[test]
fn a_refusal_is_remembered_for_five_minutes() {
    let offering = key("nbg1", "cx33");
    let refusal = |seconds| Refusal {
        offering: offering.clone(),
        at: at(seconds),
        quota: false,
    };
    let until = |now| refused_until(&[refusal(0), refusal(-100)], &offering, at(now));
    assert_eq!(until(299), Some(at(300)));
    assert_eq!(until(300), None);
    assert_eq!(refused_until(&[refusal(0)], &key("fsn1", "cx33"), at(1)), None);
}

fn failure(seconds: i64, what: &str) -> Failure {
    Failure {
        pool: "linux".into(),
        offering: key("nbg1", "cx33"),
        hash: "h1".into(),
        at: at(seconds),
        what: what.into(),
    }
}

fn state(failures: &[Failure], now: i64) -> Breaker {
    breaker(failures, &key("nbg1", "cx33"), &"h2".into(), at(now))
}

#[test]
fn three_alike_failures_open_the_breaker_until_half_an_hour_after_the_last() {
    let three = [failure(0, "a"), failure(20, "a"), failure(10, "a")];
    let open = Breaker::Open(Reason::BreakerOpen {
        failures: 3,
        what: "a".into(),
        until: at(1820),
    });
    assert_eq!(state(&three, 1819), open);
    assert_eq!(state(&three, 1820), Breaker::HalfOpen);
    assert_eq!(state(&three[..2], 30), Breaker::Closed);
    let other = breaker(&three, &key("fsn1", "cx33"), &"h3".into(), at(30));
    assert_eq!(other, Breaker::Closed);
    let template = breaker(&three, &key("fsn1", "cx33"), &"h1".into(), at(30));
    assert_eq!(template, open);
}

#[test]
fn failures_that_differ_or_lie_far_apart_are_not_in_a_row() {
    assert_eq!(
        state(&[failure(0, "a"), failure(1, "b"), failure(2, "a")], 10),
        Breaker::Closed
    );
    let window = BREAKER_WINDOW.as_secs();
    assert_eq!(BREAKER_WINDOW, secs(1800));
    let spread = |last| [failure(0, "a"), failure(1, "a"), failure(last, "a")];
    assert_eq!(state(&spread(window + 1), window + 2), Breaker::Closed);
    assert!(matches!(state(&spread(window), window + 2), Breaker::Open(_)));
}

#[test]
fn a_trial_that_fails_opens_the_breaker_again() {
    let mut failures = vec![failure(0, "a"), failure(1, "a"), failure(2, "a")];
    assert_eq!(state(&failures, 2000), Breaker::HalfOpen);
    failures.push(failure(2600, "a"));
    assert!(matches!(
        state(&failures, 2700),
        Breaker::Open(Reason::BreakerOpen { failures: 4, .. })
    ));
}

/// What some rung's cloud says to being asked.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Made,
    NoCapacity,
    /// The cloud as a whole says no.
    Down,
}

#[derive(Clone, Debug)]
struct Market {
    /// By offering: provider, cents, priority, whether sold out, launches left.
    sold: Vec<(u8, u32, u32, bool, Option<u32>)>,
    creates: usize,
    by_price: bool,
    /// In turn, over and over.
    answers: Vec<Answer>,
}

fn market() -> impl Strategy<Value = Market> {
    let launches = prop::option::weighted(0.4, 0_u32..3);
    let sold = (0_u8..3, 1_u32..6, 0_u32..3, any::<bool>(), launches);
    let answer = prop_oneof![Just(Answer::Made), Just(Answer::NoCapacity), Just(Answer::Down)];
    (
        prop::collection::vec(sold, 0..8),
        0_usize..6,
        any::<bool>(),
        prop::collection::vec(answer, 1..20),
    )
        .prop_map(|(sold, creates, by_price, answers)| Market {
            sold,
            creates,
            by_price,
            answers,
        })
}

/// The pool's ladder with each rung's priority, stock and cost, from what is sold.
fn climb(market: &Market) -> (Vec<Rung>, Vec<(u32, bool, Decimal)>, LaunchBudgets) {
    let mut pool = pool("linux", &[]);
    pool.offerings.clear();
    if market.by_price {
        pool.order = Order::Price;
    }
    let mut offered = Vec::new();
    let mut budgets = LaunchBudgets::default();
    for (at, (provider, cents, priority, sold_out, launches)) in market.sold.iter().enumerate() {
        let mut one = offering("x", &format!("t{at}"), &format!("0.0{cents} EUR"));
        one.key.provider = format!("p{provider}").into();
        one.cpus = u32::try_from(at).unwrap() % 3 + 1;
        one.available = sold_out.then_some(false);
        let mut wish = choice(&one.key.machine_type, &["x"]);
        wish.provider = one.key.provider.clone();
        wish.priority = *priority;
        pool.offerings.push(wish);
        if let Some(launches) = launches {
            budgets.limit(&one.key, *launches);
        }
        offered.push(one);
    }
    let offerings = offered.iter().map(|one| (&one.key, one)).collect();
    let known = Known::default();
    let (rated, passed) = options(&pool, &offerings, &BTreeSet::new(), known.scale());
    assert!(passed.is_empty() && rated.len() == market.sold.len());
    let place = |rated: &Rated<'_>| {
        let processors = if market.by_price { 1 } else { rated.offering.cpus };
        let cost = rated.price.hourly.amount / Decimal::from(processors);
        (
            rated.choice.priority,
            rated.offering.available == Some(false),
            cost,
        )
    };
    let places = rated.iter().map(place).collect();
    let ladder = rated
        .iter()
        .map(|rated| Rung {
            provider: rated.offering.key.provider.clone(),
            ..rung(Some(rated.offering.key.clone()))
        })
        .collect();
    (ladder, places, budgets)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_next_rung_is_never_dearer_than_needed_nor_one_that_refused_and_a_create_ends(market in market()) {
        let (ladder, places, mut budgets) = climb(&market);
        let at_first = budgets.clone();
        let mut refused = Refused::default();
        let mut launched: HashMap<OfferingKey, u32> = HashMap::new();
        let mut answers = market.answers.iter().cycle();
        for _ in 0..market.creates {
            let mut asked = BTreeSet::new();
            loop {
                // Reckoned here from nothing but what was said: what may be asked.
                let may: Vec<usize> = (0..ladder.len())
                    .filter(|at| {
                        let key = ladder[*at].offering.as_ref().unwrap();
                        let used = launched.get(key).copied().unwrap_or_default();
                        !refused.offerings.contains(key)
                            && !refused.providers.contains(&key.provider)
                            && at_first.left(key).is_none_or(|launches| used < launches)
                    })
                    .collect();
                let Some(at) = next(&ladder, &refused, &budgets) else {
                    prop_assert!(may.is_empty(), "something could be asked");
                    break;
                };
                prop_assert!(may.contains(&at), "refused before, or beyond its launches");
                prop_assert!(may.iter().all(|other| places[at] <= places[*other]), "a better one could be asked");
                prop_assert!(asked.insert(at), "asked twice for one machine");
                let key = ladder[at].offering.clone().unwrap();
                budgets.take(&key);
                *launched.entry(key.clone()).or_default() += 1;
                match answers.next().unwrap() {
                    Answer::Made => break,
                    Answer::NoCapacity => { refused.offerings.insert(key); }
                    Answer::Down => { refused.providers.insert(key.provider); }
                }
            }
            prop_assert!(asked.len() <= ladder.len());
        }
    }
}
