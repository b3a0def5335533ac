//! Currencies, budgets and what machines are spread over: as they are read, and each problem's message.

use super::{SMALL, brief, parse};
use crate::{
    model::money::Currency,
    stack::{Order, Spread, Stack},
};

fn read(old: &str, new: &str) -> Stack {
    assert!(SMALL.contains(old), "{old}");
    let text = SMALL.replacen(old, new, 1);
    parse(&text, "stacks/prod.toml").unwrap_or_else(|problems| panic!("{}", brief(&problems)))
}

/// The problems of a stack whose budget is this, without their places.
fn problems(budget: &str) -> String {
    let text = SMALL.replacen("[budget]\nhourly = \"2.50 EUR\"\n", budget, 1);
    let problems = parse(&text, "stacks/prod.toml").expect_err("this is wrong");
    brief(&problems)
}

const BUDGET: &str = "[budget]\nhourly = \"2.50 EUR\"\n";

#[test]
fn currencies_and_budgets_are_read_as_they_are_written() {
    let plain = read("max = 5", "max = 5");
    assert_eq!(plain.counted_in(), Some(&Currency::new("EUR")), "the budget's");
    assert_eq!(
        (plain.pools[0].spread, plain.pools[0].order),
        (Spread::No, Order::Work)
    );
    let stack = read(
        BUDGET,
        "[budget]\ndaily = \"20 USD\"\nmonthly = \"300 EUR\"\n\n[currency]\nbase = \"GBP\"\nrates = { EUR = \"0.86\", USD = \"0.79\" }\n",
    );
    assert_eq!(stack.counted_in(), Some(&Currency::new("GBP")));
    let limits: Vec<String> = stack
        .budget
        .limits()
        .map(|(per, money)| format!("{money} {per}"))
        .collect();
    assert_eq!(limits, ["20 USD a day", "300 EUR a month"]);
    let euro = stack
        .currency
        .convert(&"100 EUR".parse().unwrap(), &Currency::new("GBP"));
    assert_eq!(euro.unwrap().to_string(), "86 GBP");
    assert_eq!(read(BUDGET, "").counted_in(), None);
    for (written, spread) in [
        ("false", Spread::No),
        ("true", Spread::Hosts),
        ("\"hosts\"", Spread::Hosts),
        ("\"locations\"", Spread::Locations),
    ] {
        let stack = read("max = 5", &format!("max = 5\nspread = {written}"));
        assert_eq!(stack.pools[0].spread, spread, "{written}");
    }
}

#[test]
fn every_problem_of_money_has_its_message() {
    let told = |budget: &str| {
        let problems = problems(budget);
        let mut lines = problems.lines();
        let line = lines.next().unwrap_or_default();
        let what = line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
        let help = lines.next().unwrap_or_default().trim().to_owned();
        assert_eq!(lines.count(), 0, "{problems}");
        (what, help)
    };
    let expect = |budget: &str, what: &str, help: &str| {
        assert_eq!(told(budget), (what.to_owned(), format!("= {help}")), "{budget}");
    };
    expect(
        "[currency]\nbase = \"Euro\"\n",
        "\"Euro\" is not a currency",
        "write its three capital letters: \"EUR\"",
    );
    expect(
        "[currency]\nbase = \"EUR\"\nrates = { usd = \"0.92\" }\n",
        "\"usd\" is not a currency",
        "write its three capital letters: \"EUR\"",
    );
    for wrong in ["0", "-0.92", "0,92", "much"] {
        expect(
            &format!("[currency]\nbase = \"EUR\"\nrates = {{ USD = \"{wrong}\" }}\n"),
            &format!("`currency.rates.USD` cannot be \"{wrong}\": not a rate"),
            "write what one USD is worth in EUR, above zero and with a point: USD = \"0.92\"",
        );
    }
    expect(
        "[currency]\nbase = \"EUR\"\nrates = { EUR = \"1\" }\n",
        "`currency.rates.EUR` is the rate of the base itself, which is 1",
        "take it out",
    );
    expect(
        "[currency]\nrates = { USD = \"0.92\" }\n",
        "`currency.rates` says what currencies are worth, but not in which",
        "add the currency that all is compared and summed in: base = \"EUR\"",
    );
    expect(
        "[budget]\nhourly = \"2 EUR\"\ndaily = \"9 USD\"\n",
        "`budget.daily` is in USD, and another budget in EUR",
        "write both in one currency, or add [currency] with base = \"EUR\" and rates = { USD = \"…\" }",
    );
    expect(
        "[budget]\nmonthly = \"9 USD\"\n\n[currency]\nbase = \"EUR\"\n",
        "`budget.monthly` is in USD, which has no rate",
        "add what one USD is worth in EUR to [currency]: rates = { USD = \"…\" }",
    );
}
