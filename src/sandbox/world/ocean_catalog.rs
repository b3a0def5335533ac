//! What DigitalOcean sells in this world: regions, sizes with their prices, images.
//!
//! Prices are those of 2026 in USD, in units of 0.00001 USD an hour and of 1 USD a month; an IPv4 address is included.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) struct Region {
    pub(crate) slug: &'static str,
    name: &'static str,
}

pub(crate) static REGIONS: [Region; 8] = [
    Region {
        slug: "nyc1",
        name: "New York 1",
    },
    Region {
        slug: "nyc3",
        name: "New York 3",
    },
    Region {
        slug: "sfo3",
        name: "San Francisco 3",
    },
    Region {
        slug: "ams3",
        name: "Amsterdam 3",
    },
    Region {
        slug: "fra1",
        name: "Frankfurt 1",
    },
    Region {
        slug: "lon1",
        name: "London 1",
    },
    Region {
        slug: "sgp1",
        name: "Singapore 1",
    },
    Region {
        slug: "tor1",
        name: "Toronto 1",
    },
];

pub(crate) struct Size {
    pub(crate) slug: &'static str,
    description: &'static str,
    /// MiB
    pub(crate) memory: u32,
    pub(crate) vcpus: u32,
    /// GiB
    pub(crate) disk: u32,
    /// TB
    transfer: f64,
    monthly: u32,
    hourly: u32,
    regions: &'static [&'static str],
}

const ALL: &[&str] = &["nyc1", "nyc3", "sfo3", "ams3", "fra1", "lon1", "sgp1", "tor1"];
const SOME: &[&str] = &["nyc1", "nyc3", "sfo3", "ams3", "fra1"];

#[rustfmt::skip]
pub(crate) static SIZES: [Size; 12] = [
    Size { slug: "s-1vcpu-512mb-10gb", description: "Basic", memory: 512, vcpus: 1, disk: 10, transfer: 0.5, monthly: 4, hourly: 595, regions: SOME },
    Size { slug: "s-1vcpu-1gb", description: "Basic", memory: 1024, vcpus: 1, disk: 25, transfer: 1.0, monthly: 6, hourly: 893, regions: ALL },
    Size { slug: "s-1vcpu-2gb", description: "Basic", memory: 2048, vcpus: 1, disk: 50, transfer: 2.0, monthly: 12, hourly: 1786, regions: ALL },
    Size { slug: "s-2vcpu-2gb", description: "Basic", memory: 2048, vcpus: 2, disk: 60, transfer: 3.0, monthly: 18, hourly: 2679, regions: ALL },
    Size { slug: "s-2vcpu-4gb", description: "Basic", memory: 4096, vcpus: 2, disk: 80, transfer: 4.0, monthly: 24, hourly: 3571, regions: ALL },
    Size { slug: "s-2vcpu-4gb-amd", description: "Basic AMD", memory: 4096, vcpus: 2, disk: 80, transfer: 4.0, monthly: 28, hourly: 4167, regions: SOME },
    Size { slug: "s-4vcpu-8gb", description: "Basic", memory: 8192, vcpus: 4, disk: 160, transfer: 5.0, monthly: 48, hourly: 7143, regions: ALL },
    Size { slug: "s-8vcpu-16gb", description: "Basic", memory: 16384, vcpus: 8, disk: 320, transfer: 6.0, monthly: 96, hourly: 14286, regions: ALL },
    Size { slug: "c-2", description: "CPU-Optimized", memory: 4096, vcpus: 2, disk: 25, transfer: 4.0, monthly: 42, hourly: 6250, regions: ALL },
    Size { slug: "c-4", description: "CPU-Optimized", memory: 8192, vcpus: 4, disk: 50, transfer: 5.0, monthly: 84, hourly: 12500, regions: ALL },
    Size { slug: "g-2vcpu-8gb", description: "General Purpose", memory: 8192, vcpus: 2, disk: 25, transfer: 4.0, monthly: 63, hourly: 9375, regions: ALL },
    Size { slug: "g-4vcpu-16gb", description: "General Purpose", memory: 16384, vcpus: 4, disk: 50, transfer: 5.0, monthly: 126, hourly: 18750, regions: SOME },
];

impl Size {
    /// Whether it is sold in a region at all.
    pub(crate) fn is_in(&self, region: &str) -> bool {
        self.regions.contains(&region)
    }

    /// As in `sizes`; `available` says for a region's slug whether it is to be had.
    pub(crate) fn json(&self, available: impl Fn(&str) -> bool) -> Value {
        let regions: Vec<&str> = self
            .regions
            .iter()
            .copied()
            .filter(|region| available(region))
            .collect();
        json!({
            "slug": self.slug, "memory": self.memory, "vcpus": self.vcpus, "disk": self.disk, "transfer": self.transfer,
            "price_monthly": f64::from(self.monthly), "price_hourly": f64::from(self.hourly) / 100_000.0,
            "available": !regions.is_empty(), "regions": regions, "description": self.description,
            "disk_info": disk_info(self.disk),
        })
    }
}

pub(crate) fn disk_info(disk: u32) -> Value {
    json!([{"type": "local", "size": {"amount": disk, "unit": "gib"}}])
}

impl Region {
    /// As in `regions`; `available` says for a size's slug whether it is to be had here.
    pub(crate) fn json(&self, available: impl Fn(&str) -> bool) -> Value {
        let sizes: Vec<&str> = SIZES
            .iter()
            .filter(|size| size.is_in(self.slug) && available(size.slug))
            .map(|size| size.slug)
            .collect();
        json!({
            "name": self.name, "slug": self.slug, "available": true, "sizes": sizes,
            "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
        })
    }
}

pub(crate) fn size(slug: &str) -> Option<&'static Size> {
    SIZES.iter().find(|size| size.slug == slug)
}

pub(crate) fn region(slug: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|region| region.slug == slug)
}

/// An image, from the vendor or a snapshot of the project's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) distribution: String,
    /// `None` for a snapshot.
    pub(crate) slug: Option<String>,
    pub(crate) regions: Vec<String>,
    pub(crate) created: Timestamp,
    /// The droplet that a snapshot is of.
    pub(crate) of: Option<u64>,
    pub(crate) description: String,
}

impl Image {
    /// A snapshot; without regions it is in all.
    pub(crate) fn snapshot(id: u64, name: &str, regions: &[String], created: Timestamp) -> Self {
        let regions = if regions.is_empty() {
            ALL.iter().map(|region| (*region).to_owned()).collect()
        } else {
            regions.to_vec()
        };
        Self {
            id,
            name: name.to_owned(),
            distribution: "Debian".to_owned(),
            slug: None,
            regions,
            created,
            of: Some(1),
            description: String::new(),
        }
    }

    pub(crate) fn is_public(&self) -> bool {
        self.slug.is_some()
    }

    /// As in `images`.
    pub(crate) fn json(&self, tags: &[&str]) -> Value {
        json!({
            "id": self.id, "name": self.name, "distribution": self.distribution, "slug": self.slug,
            "public": self.is_public(), "regions": self.regions, "created_at": super::seconds(self.created),
            "type": if self.is_public() { "base" } else { "snapshot" },
            "min_disk_size": 10, "size_gigabytes": 2.36, "description": self.description, "tags": tags,
            "status": "available", "error_message": "",
        })
    }

    /// As in `snapshots`.
    pub(crate) fn snapshot_json(&self, tags: &[&str]) -> Value {
        json!({
            "id": self.id.to_string(), "name": self.name, "created_at": super::seconds(self.created),
            "regions": self.regions, "resource_id": self.of.unwrap_or(1).to_string(), "resource_type": "droplet",
            "min_disk_size": 10, "size_gigabytes": 2.36, "tags": tags,
        })
    }
}

/// The vendor's images.
pub(crate) fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    #[rustfmt::skip]
    let rows = [
        (133_000_011, "debian-12-x64", "12 x64", "Debian", 1_739_000_000),
        (195_000_021, "debian-13-x64", "13 x64", "Debian", 1_756_000_000),
        (129_211_873, "ubuntu-22-04-x64", "22.04 (LTS) x64", "Ubuntu", 1_738_000_000),
        (155_133_621, "ubuntu-24-04-x64", "24.04 (LTS) x64", "Ubuntu", 1_739_000_100),
        (181_000_031, "rockylinux-9-x64", "9 x64", "Rocky Linux", 1_740_000_000),
    ];
    IMAGES.get_or_init(|| {
        rows.into_iter()
            .map(|(id, slug, name, distribution, created)| Image {
                id,
                name: name.to_owned(),
                distribution: distribution.to_owned(),
                slug: Some(slug.to_owned()),
                regions: ALL.iter().map(|region| (*region).to_owned()).collect(),
                created: Timestamp::from_second(created).unwrap_or_default(),
                of: None,
                description: format!("{distribution} {name}"),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_says_where_it_is_to_be_had() {
        let shown = size("c-2").unwrap().json(|region| region != "nyc3");
        assert_eq!(shown["price_hourly"], json!(0.0625));
        assert_eq!(shown["available"], true);
        let regions = shown["regions"].as_array().unwrap();
        assert!(regions.contains(&json!("fra1")) && !regions.contains(&json!("nyc3")));
        let gone = size("c-2").unwrap().json(|_| false);
        assert_eq!(
            (&gone["available"], &gone["regions"]),
            (&json!(false), &json!([]))
        );
    }

    #[test]
    fn every_size_is_sold_in_regions_that_there_are() {
        for size in &SIZES {
            assert!(
                size.regions.iter().all(|slug| region(slug).is_some()),
                "{}",
                size.slug
            );
        }
    }
}
