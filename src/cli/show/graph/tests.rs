use std::collections::BTreeMap;

use super::{super::fixture, *};

fn quiet() -> GraphDocument {
    document(&fixture::quiet(), &fixture::snapshot())
}

fn changing() -> GraphDocument {
    document(&fixture::plan(), &fixture::snapshot())
}

fn fates(document: &GraphDocument) -> BTreeMap<&str, Fate> {
    let nodes = document.nodes.iter();
    nodes.map(|node| (node.address.as_str(), node.action)).collect()
}

#[test]
fn everything_on_record_is_a_node_though_nothing_is_to_be_done() {
    let document = quiet();
    assert_eq!(document.nodes.len(), 5);
    assert!(document.nodes.iter().all(|node| node.action == Fate::Keep));
    let text = svg(&Picture::of(&document));
    assert!(text.contains("= machine.linux/calm-fox"), "{text}");
}

#[test]
fn what_the_plan_does_is_told_of_each_and_what_uses_what() {
    let document = changing();
    let fates = fates(&document);
    for (address, fate) in [
        ("firewall/default", Fate::Update),
        ("machine.linux/brave-otter", Fate::Create),
        ("machine.linux/calm-fox", Fate::Keep),
        ("machine.linux/old-crab", Fate::Delete),
        ("machine.linux/tall-newt", Fate::Cordon),
        ("machine.linux/lost-seal", Fate::Forget),
    ] {
        assert_eq!(fates.get(address), Some(&fate), "{address}");
    }
    let edge = |from: &str, to: &str| EdgeView {
        from: from.into(),
        to: to.into(),
        kind: EdgeKind::Uses,
    };
    // Those on record use it, and so will those that are made.
    for machine in ["machine.linux/calm-fox", "machine.linux/brave-otter"] {
        assert!(
            document.edges.contains(&edge(machine, "firewall/default")),
            "{document:#?}"
        );
    }
    // The fixture has no key on record: no edge leads to what is no node.
    let known = |address: &String| document.nodes.iter().any(|node| node.address == *address);
    assert!(
        document
            .edges
            .iter()
            .all(|edge| known(&edge.from) && known(&edge.to))
    );
}

#[test]
fn what_is_made_anew_says_so_and_what_is_moved_aside_goes_after_it() {
    let mut plan = fixture::quiet();
    let mut snapshot = fixture::snapshot();
    let address: Address = "ssh_key/ops".parse().unwrap();
    let aside: Address = "ssh_key/ops@7".parse().unwrap();
    let spec = |name: &str| {
        ResourceSpec::SshKey(crate::model::resource::SshKeySpec {
            name: name.into(),
            public_key: "ssh-ed25519 AAAA".into(),
        })
    };
    let mut record = fixture::record("calm-fox", "7", crate::model::state::Phase::Live);
    record.spec = spec("prod-ops-old");
    snapshot.state.resources.insert(address.clone(), record.clone());
    let target = record.target();
    let action = |id: u32, address: &Address, verb: Verb, after: Vec<ActionId>| Action {
        id: ActionId(id),
        address: address.clone(),
        verb,
        reason: crate::model::reason::Reason::Differs {
            what: "public_key".into(),
        },
        after,
        before: Some(Box::new(record.clone())),
    };
    let relabel = Verb::Relabel {
        have: Box::new(seen(&target)),
        labels: BTreeMap::new(),
        record: Box::new(record.clone()),
        was: Some(address.clone()),
    };
    let create = Verb::Create {
        ladder: vec![crate::plan::Rung {
            offering: None,
            provider: "hetzner".into(),
            price: None,
            hash: "h".into(),
            spec: spec("prod-ops-new"),
            needs: Vec::new(),
        }],
        bootstrap: None,
    };
    let delete = Verb::Delete {
        target: target.clone(),
        registration: None,
    };
    plan.actions = vec![
        action(0, &aside, relabel, Vec::new()),
        action(1, &address, create, vec![ActionId(0)]),
        action(2, &aside, delete, vec![ActionId(1)]),
    ];
    let document = document(&plan, &snapshot);
    let fates = fates(&document);
    assert_eq!(
        (fates["ssh_key/ops"], fates["ssh_key/ops@7"]),
        (Fate::Replace, Fate::Delete)
    );
    let ops = document
        .nodes
        .iter()
        .find(|node| node.address == "ssh_key/ops")
        .unwrap();
    assert_eq!((ops.name.as_deref(), &ops.id), (Some("prod-ops-new"), &None));
    assert!(document.edges.contains(&EdgeView {
        from: "ssh_key/ops@7".into(),
        to: "ssh_key/ops".into(),
        kind: EdgeKind::After,
    }));
    let after = document.edges.iter().filter(|edge| edge.kind == EdgeKind::After);
    assert_eq!(after.count(), 1, "and not the other way round, too");
}

fn seen(target: &ResourceRef) -> crate::model::resource::Observed {
    crate::model::resource::Observed {
        target: target.clone(),
        name: "prod-ops-old".into(),
        labels: BTreeMap::new(),
        status: crate::model::resource::CloudStatus::Running,
        created_at: fixture::at("00:00:00"),
        offering: None,
        addresses: Vec::new(),
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: None,
        members: Vec::new(),
        group: None,
    }
}

#[test]
fn the_picture_in_graphvizs_language() {
    insta::assert_snapshot!(dot(&Picture::of(&changing())), @r##"
    digraph "prod" {
      rankdir = RL;
      node [shape = box, style = filled, fontname = "monospace", fontsize = 11];
      n0 [label = "~ firewall/default\nrules differs from the stack file", class = "update", fillcolor = "#fdeccb", color = "#a86400"];
      n1 [label = "+ machine.linux/brave-otter\n5 queued and 1 running jobs want 3 runners", class = "create", fillcolor = "#dcf3e0", color = "#1d7a36"];
      n2 [label = "= machine.linux/calm-fox\nruns 1 job", class = "keep", fillcolor = "#f6f6f4", color = "#8a8a85"];
      n3 [label = "= machine.linux/dry-hare\npaid until 02:20:00Z", class = "keep", fillcolor = "#f6f6f4", color = "#8a8a85"];
      n4 [label = "+ machine.linux/keen-wolf\n5 queued and 1 running jobs want 3 runners", class = "create", fillcolor = "#dcf3e0", color = "#1d7a36"];
      n5 [label = ". machine.linux/lost-seal\nthe cloud does not have it any more", class = "forget", fillcolor = "#e6e6ea", color = "#5c5c68"];
      n6 [label = "- machine.linux/old-crab\nidle, and paid until 01:31:00Z", class = "delete", fillcolor = "#fbdcd9", color = "#b3261e"];
      n7 [label = "! machine.linux/tall-newt\nabove max = 3", class = "cordon", fillcolor = "#e4e0fa", color = "#5341b4"];
      n1 -> n0;
      n2 -> n0;
      n3 -> n0;
      n4 -> n0;
      n5 -> n0;
      n6 -> n0;
      n7 -> n0;
    }
    "##);
}

#[test]
fn the_picture_in_mermaids_language() {
    insta::assert_snapshot!(mermaid(&Picture::of(&changing())), @r#"
    flowchart RL
      n0["~ firewall/default<br/>rules differs from the stack file"]:::to_update
      n1["+ machine.linux/brave-otter<br/>5 queued and 1 running jobs want 3 runners"]:::to_create
      n2["= machine.linux/calm-fox<br/>runs 1 job"]:::to_keep
      n3["= machine.linux/dry-hare<br/>paid until 02:20:00Z"]:::to_keep
      n4["+ machine.linux/keen-wolf<br/>5 queued and 1 running jobs want 3 runners"]:::to_create
      n5[". machine.linux/lost-seal<br/>the cloud does not have it any more"]:::to_forget
      n6["- machine.linux/old-crab<br/>idle, and paid until 01:31:00Z"]:::to_delete
      n7["! machine.linux/tall-newt<br/>above max = 3"]:::to_cordon
      n1 --> n0
      n2 --> n0
      n3 --> n0
      n4 --> n0
      n5 --> n0
      n6 --> n0
      n7 --> n0
      classDef to_keep fill:#f6f6f4,stroke:#8a8a85,color:#1a1a1a
      classDef to_create fill:#dcf3e0,stroke:#1d7a36,color:#1a1a1a
      classDef to_update fill:#fdeccb,stroke:#a86400,color:#1a1a1a
      classDef to_delete fill:#fbdcd9,stroke:#b3261e,color:#1a1a1a
      classDef to_forget fill:#e6e6ea,stroke:#5c5c68,color:#1a1a1a
      classDef to_cordon fill:#e4e0fa,stroke:#5341b4,color:#1a1a1a
    "#);
}

/// Left, top, width, height.
type Rectangle = (usize, usize, usize, usize);

/// Every text of a picture, and the box of every node.
fn parsed(text: &str) -> (Vec<String>, Vec<Rectangle>) {
    let tree = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let number = |node: &roxmltree::Node<'_, '_>, name: &str| -> usize {
        node.attribute(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    };
    let texts = tree
        .descendants()
        .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")))
        .map(|node| node.text().unwrap_or_default().to_owned())
        .collect();
    let boxes = tree
        .descendants()
        .filter(|node| node.tag_name().name() == "g")
        .filter_map(|group| group.children().find(|node| node.tag_name().name() == "rect"))
        .map(|node| {
            let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| number(&node, name));
            (x, y, width, height)
        })
        .collect();
    (texts, boxes)
}

#[test]
fn a_picture_is_well_formed_its_words_are_whole_and_no_box_covers_another() {
    let document = changing();
    let text = svg(&Picture::of(&document));
    let (texts, boxes) = parsed(&text);
    for node in &document.nodes {
        let title = format!("{} {}", node.action.symbol(), node.address);
        assert!(texts.contains(&title), "{title} is not in {texts:?}");
    }
    assert_eq!(boxes.len(), document.nodes.len());
    for (at, a) in boxes.iter().enumerate() {
        for b in &boxes[..at] {
            let apart = a.0 + a.2 <= b.0 || b.0 + b.2 <= a.0 || a.1 + a.3 <= b.1 || b.1 + b.3 <= a.1;
            assert!(apart, "{a:?} {b:?}");
        }
    }
    let tree = roxmltree::Document::parse(&text).unwrap();
    let size = |name| {
        tree.root_element()
            .attribute(name)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    assert!(
        boxes
            .iter()
            .all(|b| b.0 + b.2 <= size("width") && b.1 + b.3 <= size("height"))
    );
}

#[test]
fn whatever_a_reason_says_the_picture_is_well_formed() {
    let mut document = changing();
    let nasty = "a < b & \"c\" > d; #1; ]] --> \u{1}\u{fffe} `x` **y**\n\\";
    document.nodes[0].reason = Some(nasty.into());
    document.stack = "<stack & co>".into();
    let picture = Picture::of(&document);
    let (texts, _) = parsed(&svg(&picture));
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("a < b & \"c\" > d; #1;")),
        "{texts:?}"
    );
    let text = mermaid(&picture);
    let label = text.lines().find(|line| line.contains("<br/>a ")).unwrap();
    assert_eq!(label.matches('"').count(), 2, "{label}");
}

#[test]
fn alike_machines_of_a_pool_are_drawn_as_one_and_told_each_in_json() {
    let document = document(&fixture::large(2000), &fixture::snapshot());
    assert!(document.nodes.len() >= 2000);
    let picture = Picture::of(&document);
    assert!(picture.nodes.len() < 10, "{:?}", picture.nodes);
    // The fixture's machines wait for the first of them, which so is unlike the others.
    assert!(
        picture
            .nodes
            .iter()
            .any(|node| node.title == "+ 1999 of machine.linux")
    );
}

#[test]
fn many_nodes_that_differ_stand_in_several_columns() {
    let mut document = changing();
    for at in 0..100 {
        let mut node = document.nodes[0].clone();
        node.address = format!("machine.p{at}/brave-otter");
        node.pool = Some(format!("p{at}"));
        document.nodes.push(node);
    }
    let (_, boxes) = parsed(&svg(&Picture::of(&document)));
    let columns: BTreeSet<usize> = boxes.iter().map(|b| b.0).collect();
    assert_eq!(columns.len(), 4);
}

#[test]
fn the_schema_fits_the_document() {
    let schema: serde_json::Value = schemars::schema_for!(GraphDocument).into();
    let value = serde_json::to_value(changing()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
}
