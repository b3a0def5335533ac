use super::{super::fixture, *};

fn document() -> Value {
    plan(&fixture::plan(), &fixture::snapshot())
}

#[test]
fn the_document_has_the_keys_of_format_1_2() {
    let document = document();
    for key in [
        "format_version",
        "terraform_version",
        "planned_values",
        "resource_changes",
        "resource_drift",
        "prior_state",
        "configuration",
        "output_changes",
        "timestamp",
        "applyable",
        "complete",
        "errored",
    ] {
        assert!(document.get(key).is_some(), "{key}");
    }
    assert_eq!(document["format_version"], "1.2");
    assert_eq!(document["applyable"], true);
}

#[test]
fn every_change_has_terraforms_shape_and_words() {
    const ACTIONS: [&str; 8] = [
        r#"["no-op"]"#,
        r#"["create"]"#,
        r#"["update"]"#,
        r#"["delete"]"#,
        r#"["forget"]"#,
        r#"["delete","create"]"#,
        r#"["create","delete"]"#,
        r#"["read"]"#,
    ];
    let document = document();
    let changes = document["resource_changes"].as_array().unwrap();
    for entry in changes {
        for key in ["address", "mode", "type", "name", "provider_name"] {
            assert!(entry[key].is_string(), "{key} of {entry}");
        }
        let change = &entry["change"];
        assert!(
            ACTIONS.contains(&change["actions"].to_string().as_str()),
            "{entry}"
        );
        for key in [
            "before",
            "after",
            "after_unknown",
            "before_sensitive",
            "after_sensitive",
        ] {
            assert!(change.get(key).is_some(), "{key} of {entry}");
        }
    }
    let addresses: BTreeSet<&str> = changes
        .iter()
        .filter_map(|entry| entry["address"].as_str())
        .collect();
    assert_eq!(addresses.len(), changes.len(), "each resource once");
}

#[test]
fn a_create_a_retire_a_cordon_and_a_forgotten_record_read_as_terraform_would_write_them() {
    let document = document();
    let lines: Vec<String> = document["resource_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!(
                "{} {} {}",
                entry["address"].as_str().unwrap(),
                entry["change"]["actions"],
                entry["action_reason"].as_str().unwrap_or("-")
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    hcloud_firewall.default ["update"] -
    hcloud_server.linux["brave-otter"] ["create"] -
    hcloud_server.linux["calm-fox"] ["no-op"] -
    hcloud_server.linux["dry-hare"] ["no-op"] -
    hcloud_server.linux["keen-wolf"] ["create"] -
    hcloud_server.linux["lost-seal"] ["forget"] -
    hcloud_server.linux["old-crab"] ["delete"] delete_because_each_key
    hcloud_server.linux["tall-newt"] ["update"] -
    "#);
    let create = &document["resource_changes"][1]["change"];
    insta::assert_json_snapshot!(create, @r#"
    {
      "actions": [
        "create"
      ],
      "before_sensitive": false,
      "after_sensitive": {
        "user_data": true
      },
      "before": null,
      "after": {
        "name": "prod-linux-brave-otter",
        "server_type": "cx33",
        "location": "nbg1",
        "image": "debian-12",
        "ssh_keys": [
          "ops"
        ],
        "public_net": [
          {
            "ipv4_enabled": true
          }
        ],
        "labels": {
          "runfleet-stack": "prod",
          "runfleet-pool": "linux"
        },
        "runfleet_cordoned": false,
        "network": []
      },
      "after_unknown": {
        "id": true,
        "ipv4_address": true,
        "ipv6_address": true,
        "status": true,
        "user_data": true,
        "firewall_ids": true
      }
    }
    "#);
}

#[test]
fn what_is_planned_is_what_stays_with_what_is_made() {
    let document = document();
    let planned = document["planned_values"]["root_module"]["resources"]
        .as_array()
        .unwrap();
    let prior = document["prior_state"]["values"]["root_module"]["resources"]
        .as_array()
        .unwrap();
    // Five on record, one retired, one forgotten, two made, and the firewall that is changed.
    assert_eq!((prior.len(), planned.len()), (5, 6));
    let blocks = document["configuration"]["root_module"]["resources"]
        .as_array()
        .unwrap();
    assert_eq!(blocks.len(), 2, "one for the pool, one for the firewall");
}

#[test]
fn what_is_removed_and_made_under_one_address_is_one_replacement() {
    use crate::{model::ids::ResourceKind, plan::ActionId};

    let mut saved = fixture::plan();
    let address = Address::shared(ResourceKind::SshKey, "ops");
    let target = crate::model::resource::ResourceRef {
        provider: "hetzner".into(),
        kind: ResourceKind::SshKey,
        id: "5".into(),
    };
    let spec = crate::model::resource::ResourceSpec::SshKey(crate::model::resource::SshKeySpec {
        name: "prod-ops".into(),
        public_key: "ssh-ed25519 AAAA".into(),
    });
    let reason = Reason::Differs {
        what: "public key".into(),
    };
    let action = |id: u32, verb, after| Action {
        id: ActionId(id),
        address: address.clone(),
        verb,
        reason: reason.clone(),
        after,
        before: None,
    };
    let rung = crate::plan::Rung {
        offering: None,
        provider: "hetzner".into(),
        price: None,
        hash: "h".into(),
        spec,
        needs: Vec::new(),
    };
    saved.actions = vec![
        action(
            0,
            Verb::Delete {
                target,
                registration: None,
            },
            Vec::new(),
        ),
        action(
            1,
            Verb::Create {
                ladder: vec![rung],
                bootstrap: None,
            },
            vec![ActionId(0)],
        ),
    ];
    let document = plan(&saved, &fixture::snapshot());
    let entry = document["resource_changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["address"] == "hcloud_ssh_key.ops")
        .unwrap();
    assert_eq!(entry["change"]["actions"], json!(["delete", "create"]));
    assert_eq!(entry["action_reason"], "replace_because_cannot_update");
    assert!(entry["change"]["replace_paths"].is_array());
    let text = super::super::plan::plan(&saved, &[], "runfleet", super::super::Paint::PLAIN);
    assert!(
        text.contains("-/+ delete") && text.contains("-/+ create"),
        "{text}"
    );
}
