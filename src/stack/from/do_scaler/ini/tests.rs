//! The reader against Python's own, and its words.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value as Json, json};

use super::*;

/// Each text as Python reads it: every value of every section, `null` where it is an error; `null` as a whole where reading is.
const PYTHON: &str = r#"
import configparser, io, json, sys
out = []
for text in json.load(sys.stdin):
    parser = configparser.ConfigParser(interpolation=configparser.ExtendedInterpolation())
    try:
        parser.read_file(io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    except configparser.Error:
        out.append(None)
        continue
    read = {}
    for section in parser.sections():
        read[section] = {}
        for option in parser.options(section):
            try:
                read[section][option] = parser.get(section, option)
            except configparser.Error:
                read[section][option] = None
    out.append(read)
json.dump(out, sys.stdout)
"#;

/// What Python makes of each text.
fn python(texts: &[String]) -> Vec<Json> {
    let mut child = Command::new("python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which the tests are set up with");
    let asked = serde_json::to_vec(texts).unwrap();
    child.stdin.take().unwrap().write_all(&asked).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same of ours.
fn ours(text: &str) -> Json {
    let Ok(ini) = Ini::read(text) else {
        return Json::Null;
    };
    let mut read = serde_json::Map::new();
    for name in ini.sections() {
        let own = ini.sections[name].options.keys();
        let names: BTreeSet<&String> = own.chain(ini.defaults.options.keys()).collect();
        let values = names.into_iter().map(|option| {
            let value = ini.get(name, option).ok().flatten();
            (
                option.clone(),
                value.map_or(Json::Null, |value| json!(value.text)),
            )
        });
        read.insert(name.to_owned(), Json::Object(values.collect()));
    }
    Json::Object(read)
}

fn agree(texts: &[String]) {
    let theirs = python(texts);
    assert_eq!(theirs.len(), texts.len());
    let mut read = 0;
    for (text, theirs) in texts.iter().zip(theirs) {
        read += usize::from(!theirs.is_null());
        assert_eq!(ours(text), theirs, "{text:?}");
    }
    assert!(
        read * 10 > texts.len(),
        "{read} of {} were read at all",
        texts.len()
    );
}

#[test]
fn each_form_is_read_as_python_reads_it() {
    let deep = |length: usize| {
        let mut text = "[a]\nk0 = $$end\n".to_owned();
        for at in 1..=length {
            writeln!(text, "k{at} = ${{k{}}}", at - 1).unwrap();
        }
        text
    };
    let mut texts: Vec<String> = [
        "",
        "[a]\n",
        "[a]\nKey = Value\n",
        "[a]\nkey: value = more\n",
        "[a]\nkey = value : more\n",
        "[a]\nkey=\n",
        "[a]\nkey\n",
        "[a]\n= value\n",
        "key = value\n",
        "# comment\n; comment\n[a]\n # comment\nkey = a # b ; c\n",
        "[a]\nkey = one\n  two\n\tthree\n\n  four\n\n\nnext = 5\n",
        "[a]\nkey = one\n# comment\n  two\n",
        "[a]\n  key = one\n  next = two\n    more\n",
        "[a]\n  key = one\n next = two\n",
        "[a]\nkey =\n  one\n  two\n",
        "[a]\n\n  key = one\n",
        "[a]\nk = 1\n[a]\nj = 2\n",
        "[a]\nk = 1\nK = 2\n",
        "[DEFAULT]\nk = 1\nl = ${k}\n[a]\nk = 2\n[DEFAULT]\nm = 3\n",
        "[DEFAULT]\nk = 1\n[DEFAULT]\nk = 2\n",
        "[a]b]\nk = 1\n",
        "[a] trailing\nk = 1\n",
        "[]\nk = 1\n",
        "[a]\n[]\n",
        "[a]\n[x = 1\n",
        "[ a ]\nk = 1\n[a]\nj = ${ a :k} ${a:j}\n",
        "[a]\r\nk = 1\r\n  2\r\n",
        "[a]\rk = 1\r",
        "[a]\nk = ${B:x} ${b}\nb = 2\n[B]\nX = 3\n",
        "[a]\nk = ${a:b:c}\n",
        "[a]\nk = $x\n",
        "[a]\nk = $\n",
        "[a]\nk = ${}\n",
        "[a]\nk = ${x\n",
        "[a]\nk = $${x} $$$$ 5$$\n",
        "[a]\nk = ${k}\n",
        "[a]\nk = ${j}\nj = ${k}\n",
        "[a]\nk = ${x:y}\n",
        "[a]\nk = ${DEFAULT:d}\n[DEFAULT]\nd = ${e}\ne = 4\n",
        "[DEFAULT]\nd = ${e}\n[a]\nk = ${d}\ne = 1\n[b]\nj = ${a:d}\n",
        "[a]\nk = ${j\n  l}\nj = 1\n",
        "[a.b]\nk = ${c.d:e}\n[c.d]\ne = f\n",
        "[scaler]\ndo_token = s\n[x]\ndo_token = ${scaler:DO_TOKEN}\n",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend((7..13).map(deep));
    agree(&texts);
}

#[test]
fn a_thousand_texts_are_read_as_python_reads_them() {
    let line = prop_oneof![
        3 => "[ \t]{0,2}(a|B|key|K2)[ ]?(=|:| = | : )[ ]?[a-c]{0,3}(\\$\\{(a|b|key|K2|s:a|T:key|DEFAULT:b|s:a:b|)\\}|\\$\\$|\\$|#|;|=)?[a-c:]{0,2}",
        1 => "\\[(s|T|DEFAULT|s t|\\])\\] ?x?",
        1 => "[ \t]{0,3}[#;]?[a-c=\\[\\]\u{1c}\u{a0}]{0,4}",
    ];
    let text = (
        "(\\[s\\]\n)?",
        proptest::collection::vec(line, 0..9),
        "(\n|\r\n|\r)",
    );
    let text = text.prop_map(|(first, lines, end)| first + &lines.join(&end));
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let texts: Vec<String> = (0..1000)
        .map(|_| text.new_tree(&mut runner).unwrap().current())
        .collect();
    agree(&texts);
}

#[test]
fn values_know_their_line_and_what_nobody_asked_for_is_known() {
    let text =
        "[DEFAULT]\nroot = /etc\n\n[a]\nK = one\n  two\nother = ${b:dir}/x\nidle = 1\n[b]\ndir = ${root}/b\n";
    let ini = Ini::read(text).unwrap();
    let k = ini.get("a", "k").unwrap().unwrap();
    assert_eq!((k.line, k.text.as_str()), (5, "one\ntwo"));
    let other = ini.get("a", "Other").unwrap().unwrap();
    assert_eq!((other.line, other.text.as_str()), (7, "/etc/b/x"));
    assert_eq!(ini.get("a", "absent").unwrap(), None);
    assert_eq!(ini.unread(), [("a".to_owned(), "idle".to_owned())]);
    assert_eq!((ini.section("b"), ini.section("c"), ini.end), (Some(9), None, 11));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_to_type() {
    let told = |text: &str| {
        let problem = Ini::read(text)
            .and_then(|ini| ini.get("a", "k").map(|_| ()))
            .unwrap_err();
        format!("{}: {} ({})", problem.line, problem.why, problem.help)
    };
    for (text, expected) in [
        (
            "\nk = 1\n",
            "2: something stands before the first section (begin with a section: [scaler])",
        ),
        (
            "[a]\n\noops\n",
            "3: neither a section, an option nor a comment (write KEY = VALUE; ",
        ),
        (
            "[a]\nk = 1\n[a]\n",
            "3: the section [a] is there already, in line 1 (let each section stand once)",
        ),
        (
            "[a]\nk = 1\nK : 2\n",
            "3: k is there already in [a], in line 2 (let each option of a section stand once)",
        ),
        (
            "[a]\nk = ${x}\n",
            "2: k: ${x} refers to nothing (write `x = …` into [a], or correct the reference; ",
        ),
        (
            "[a]\nk = ${B:X}\n",
            "2: k: ${B:X} refers to nothing (write `x = …` into [B], or correct the reference; ",
        ),
        (
            "[a]\nk = ${j}\nj = ${k}\n",
            "2: k: ${k} refers to itself in the end (write one of the values itself)",
        ),
        (
            "[a]\nk = 5$\n",
            "2: k: a $ that begins no reference (write ${option} or ${section:option}, and $$ for a dollar)",
        ),
        (
            "[a]\nk = ${a:b:c}\n",
            "2: k: ${a:b:c} has more than one colon (write ${option} or ${section:option})",
        ),
    ] {
        let told = told(text);
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn references_that_would_grow_without_bound_are_refused() {
    let mut text = "[a]\nx0 = $$aaaaaaaaaaaaaaaa\n".to_owned();
    for at in 1..9 {
        let reference = format!("${{x{}}}", at - 1);
        writeln!(text, "x{at} = {}", reference.repeat(50)).unwrap();
    }
    let ini = Ini::read(&text).unwrap();
    let problem = ini.get("a", "x8").unwrap_err();
    assert!(problem.why.contains("more than 65536 letters"), "{}", problem.why);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "([\\[\\]a-c=: \t\n\r#;${}\\PC]{0,4}){0,30}") {
        if let Ok(ini) = Ini::read(&text) {
            for (section, option) in ini.unread() {
                let _ = ini.get(&section, &option);
            }
        }
    }
}
