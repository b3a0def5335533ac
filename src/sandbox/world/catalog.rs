//! What Hetzner sells in this world: locations, server types with their prices, images.
//!
//! Prices are those of 2026 in EUR, net and without the IPv4 address, in units of 0.0001 EUR.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::selector::Labels;

/// VAT in percent.
const VAT: u64 = 19;
/// An IPv4 address, per hour and month, in 0.0001 EUR.
const IPV4_HOURLY: u64 = 8;
const IPV4_MONTHLY: u64 = 5000;

/// Parts of the world with a network of their own; not all have a location here.
pub(crate) static ZONES: [&str; 4] = ["eu-central", "us-east", "us-west", "ap-southeast"];

pub(crate) struct Location {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    description: &'static str,
    country: &'static str,
    city: &'static str,
    latitude: f64,
    longitude: f64,
    pub(crate) network_zone: &'static str,
}

#[rustfmt::skip]
pub(crate) static LOCATIONS: [Location; 4] = [
    Location { id: 1, name: "fsn1", description: "Falkenstein DC Park 1", country: "DE", city: "Falkenstein", latitude: 50.476_12, longitude: 12.370_071, network_zone: "eu-central" },
    Location { id: 2, name: "nbg1", description: "Nuremberg DC Park 1", country: "DE", city: "Nuremberg", latitude: 49.452_102, longitude: 11.076_665, network_zone: "eu-central" },
    Location { id: 3, name: "hel1", description: "Helsinki DC Park 1", country: "FI", city: "Helsinki", latitude: 60.169_855, longitude: 24.938_379, network_zone: "eu-central" },
    Location { id: 4, name: "ash", description: "Ashburn, VA", country: "US", city: "Ashburn, VA", latitude: 39.045_821, longitude: -77.487_073, network_zone: "us-east" },
];

impl Location {
    pub(crate) fn json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "description": self.description, "country": self.country,
            "city": self.city, "latitude": self.latitude, "longitude": self.longitude, "network_zone": self.network_zone,
        })
    }
}

pub(crate) struct ServerType {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) category: &'static str,
    pub(crate) cores: u32,
    pub(crate) memory: f64,
    pub(crate) disk: u32,
    pub(crate) dedicated: bool,
    pub(crate) architecture: &'static str,
    /// Per hour and month, in 0.0001 EUR.
    hourly: u64,
    monthly: u64,
    pub(crate) locations: &'static [&'static str],
    /// Ordering ends soon: announced, unavailable after.
    deprecation: Option<(&'static str, &'static str)>,
}

const EU: &[&str] = &["fsn1", "nbg1", "hel1"];
const ALL: &[&str] = &["fsn1", "nbg1", "hel1", "ash"];

#[rustfmt::skip]
pub(crate) static SERVER_TYPES: [ServerType; 9] = [
    ServerType { id: 104, name: "cx22", description: "CX22", category: "cost_optimized", cores: 2, memory: 4.0, disk: 40, dedicated: false, architecture: "x86", hourly: 60, monthly: 37_900, locations: EU, deprecation: Some(("2025-10-16T06:00:00Z", "2025-12-31T23:59:59Z")) },
    ServerType { id: 114, name: "cx23", description: "CX23", category: "cost_optimized", cores: 2, memory: 4.0, disk: 40, dedicated: false, architecture: "x86", hourly: 88, monthly: 54_900, locations: EU, deprecation: None },
    ServerType { id: 115, name: "cx33", description: "CX33", category: "cost_optimized", cores: 4, memory: 8.0, disk: 80, dedicated: false, architecture: "x86", hourly: 136, monthly: 84_900, locations: EU, deprecation: None },
    ServerType { id: 116, name: "cx43", description: "CX43", category: "cost_optimized", cores: 8, memory: 16.0, disk: 160, dedicated: false, architecture: "x86", hourly: 256, monthly: 159_900, locations: EU, deprecation: None },
    ServerType { id: 45, name: "cax11", description: "CAX11", category: "cost_optimized", cores: 2, memory: 4.0, disk: 40, dedicated: false, architecture: "arm", hourly: 96, monthly: 59_900, locations: EU, deprecation: None },
    ServerType { id: 93, name: "cax21", description: "CAX21", category: "cost_optimized", cores: 4, memory: 8.0, disk: 80, dedicated: false, architecture: "arm", hourly: 168, monthly: 104_900, locations: EU, deprecation: None },
    ServerType { id: 109, name: "cpx22", description: "CPX22", category: "regular_purpose", cores: 2, memory: 4.0, disk: 80, dedicated: false, architecture: "x86", hourly: 312, monthly: 194_900, locations: EU, deprecation: None },
    ServerType { id: 110, name: "cpx32", description: "CPX32", category: "regular_purpose", cores: 4, memory: 8.0, disk: 160, dedicated: false, architecture: "x86", hourly: 569, monthly: 354_900, locations: EU, deprecation: None },
    ServerType { id: 96, name: "ccx13", description: "CCX13 Dedicated CPU", category: "general_purpose", cores: 2, memory: 8.0, disk: 80, dedicated: true, architecture: "x86", hourly: 689, monthly: 429_900, locations: ALL, deprecation: None },
];

impl ServerType {
    /// Whether new servers can be ordered at all at `now`.
    pub(crate) fn orderable(&self, now: Timestamp) -> bool {
        self.deprecation
            .and_then(|(_, after)| after.parse::<Timestamp>().ok())
            .is_none_or(|after| now < after)
    }

    /// Prices by location, as in `server_types` and `pricing`.
    pub(crate) fn prices(&self) -> Vec<Value> {
        self.locations
            .iter()
            .map(|location| {
                // Traffic is dearer and scarcer overseas.
                let (terabytes, per_terabyte) = if *location == "ash" {
                    (1, 10_000)
                } else {
                    (20, 10_000)
                };
                json!({
                    "location": location,
                    "price_hourly": money(self.hourly),
                    "price_monthly": money(self.monthly),
                    "included_traffic": terabytes * 1_099_511_627_776_u64,
                    "price_per_tb_traffic": money(per_terabyte),
                })
            })
            .collect()
    }

    /// As in `server_types`; `available` says for a location's name whether it is to be had.
    pub(crate) fn json(&self, available: impl Fn(&str) -> bool) -> Value {
        let deprecation = self.deprecation.map_or(
            Value::Null,
            |(announced, after)| json!({"announced": announced, "unavailable_after": after}),
        );
        let locations: Vec<Value> = LOCATIONS
            .iter()
            .filter(|location| self.locations.contains(&location.name))
            .map(|location| {
                json!({
                    "id": location.id, "name": location.name, "deprecation": deprecation,
                    "recommended": self.deprecation.is_none(), "available": available(location.name),
                })
            })
            .collect();
        json!({
            "id": self.id, "name": self.name, "description": self.description, "category": self.category,
            "cores": self.cores, "memory": self.memory, "disk": self.disk,
            "deprecated": self.deprecation.is_some(), "deprecation": deprecation,
            "prices": self.prices(), "storage_type": "local",
            "cpu_type": if self.dedicated { "dedicated" } else { "shared" },
            "architecture": self.architecture, "locations": locations,
        })
    }
}

/// By name or id.
pub(crate) fn server_type(wanted: &str) -> Option<&'static ServerType> {
    SERVER_TYPES
        .iter()
        .find(|kind| kind.name == wanted || kind.id.to_string() == wanted)
}

/// By name or id.
pub(crate) fn location(wanted: &str) -> Option<&'static Location> {
    LOCATIONS
        .iter()
        .find(|location| location.name == wanted || location.id.to_string() == wanted)
}

/// Net and gross of an amount in 0.0001 EUR, with the API's ten and sixteen decimals.
pub(crate) fn money(amount: u64) -> Value {
    let gross = amount * (100 + VAT);
    json!({
        "net": format!("{}.{:04}000000", amount / 10_000, amount % 10_000),
        "gross": format!("{}.{:06}0000000000", gross / 1_000_000, gross % 1_000_000),
    })
}

/// The body of `GET /pricing`.
pub(crate) fn pricing() -> Value {
    let address = |hourly: u64, monthly: u64| -> Vec<Value> {
        LOCATIONS
            .iter()
            .map(|location| json!({"location": location.name, "price_hourly": money(hourly), "price_monthly": money(monthly)}))
            .collect()
    };
    let floating = |monthly: u64| -> Vec<Value> {
        LOCATIONS
            .iter()
            .map(|location| json!({"location": location.name, "price_monthly": money(monthly)}))
            .collect()
    };
    let types: Vec<Value> = SERVER_TYPES
        .iter()
        .map(|kind| json!({"id": kind.id, "name": kind.name, "prices": kind.prices()}))
        .collect();
    let balancer: Vec<Value> = LOCATIONS
        .iter()
        .map(|location| {
            json!({
                "location": location.name, "price_hourly": money(88), "price_monthly": money(54_900),
                "included_traffic": 21_990_232_555_520_u64, "price_per_tb_traffic": money(10_000),
            })
        })
        .collect();
    json!({"pricing": {
        "currency": "EUR",
        "vat_rate": format!("{VAT}.000000"),
        "primary_ips": [
            {"type": "ipv4", "prices": address(IPV4_HOURLY, IPV4_MONTHLY)},
            {"type": "ipv6", "prices": address(0, 0)},
        ],
        "floating_ips": [
            {"type": "ipv4", "prices": floating(30_000)},
            {"type": "ipv6", "prices": floating(10_000)},
        ],
        "floating_ip": {"price_monthly": money(30_000)},
        "image": {"price_per_gb_month": money(110)},
        "volume": {"price_per_gb_month": money(440)},
        "server_backup": {"percentage": "20.000000"},
        "server_types": types,
        "load_balancer_types": [{"id": 1, "name": "lb11", "prices": balancer}],
    }})
}

/// An image, from the vendor or a snapshot of the project's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: u64,
    /// `None` for a snapshot.
    pub(crate) name: Option<String>,
    pub(crate) description: String,
    pub(crate) architecture: String,
    pub(crate) os_flavor: String,
    pub(crate) os_version: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) labels: Labels,
}

impl Image {
    pub(crate) fn kind(&self) -> &'static str {
        if self.name.is_some() { "system" } else { "snapshot" }
    }

    pub(crate) fn json(&self) -> Value {
        let snapshot = self.name.is_none();
        json!({
            "id": self.id, "type": self.kind(), "status": "available", "name": self.name,
            "description": self.description, "image_size": if snapshot { json!(2.3) } else { Value::Null },
            "disk_size": if snapshot { 40 } else { 5 }, "created": super::seconds(self.created),
            "created_from": if snapshot { json!({"id": 1, "name": "builder"}) } else { Value::Null },
            "bound_to": null, "os_flavor": self.os_flavor, "os_version": self.os_version,
            "rapid_deploy": !snapshot, "protection": {"delete": false}, "deprecated": null, "deleted": null,
            "labels": self.labels, "architecture": self.architecture,
        })
    }
}

/// The vendor's images.
pub(crate) fn system_images() -> Vec<Image> {
    #[rustfmt::skip]
    let rows = [
        (114_690_387, "debian-12", "Debian 12", "x86", "debian", "12", 1_686_636_000),
        (114_690_389, "debian-12", "Debian 12", "arm", "debian", "12", 1_686_636_000),
        (310_557_660, "debian-13", "Debian 13", "x86", "debian", "13", 1_754_892_000),
        (310_557_661, "debian-13", "Debian 13", "arm", "debian", "13", 1_754_892_000),
        (161_547_269, "ubuntu-24.04", "Ubuntu 24.04", "x86", "ubuntu", "24.04", 1_713_960_000),
        (161_547_270, "ubuntu-24.04", "Ubuntu 24.04", "arm", "ubuntu", "24.04", 1_713_960_000),
    ];
    rows.into_iter()
        .map(
            |(id, name, description, architecture, flavor, version, created)| Image {
                id,
                name: Some(name.to_owned()),
                description: description.to_owned(),
                architecture: architecture.to_owned(),
                os_flavor: flavor.to_owned(),
                os_version: Some(version.to_owned()),
                created: Timestamp::from_second(created).unwrap_or_default(),
                labels: Labels::new(),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_decimals_of_the_api() {
        assert_eq!(
            money(88),
            json!({"net": "0.0088000000", "gross": "0.0104720000000000"})
        );
        assert_eq!(
            money(84_900),
            json!({"net": "8.4900000000", "gross": "10.1031000000000000"})
        );
    }

    #[test]
    fn a_type_past_its_end_cannot_be_ordered() {
        let now = "2026-11-01T00:00:00Z".parse().unwrap();
        assert!(!server_type("cx22").unwrap().orderable(now));
        assert!(server_type("114").unwrap().orderable(now));
    }
}
