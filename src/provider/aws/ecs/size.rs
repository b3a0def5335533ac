//! Fargate's sizes: how much of a processor and of memory a task has, by its name in the stack file: `0.25vcpu-0.5gb`,
//! `2vcpu-4gb-arm64`.

use std::fmt;

use rust_decimal::Decimal;

use crate::model::offering::Architecture;

/// What stands behind a size that runs on arm64.
const ARM: &str = "-arm64";

/// CPU units of a processor, and MiB of a GB, as ECS counts.
const UNITS: u32 = 1024;
const GB: u32 = 1024;

/// Of which memory a task of so many CPU units has one: CPU units, the least, the most, and what lies between two, in MiB.
///
/// Source: ECS API reference, `RegisterTaskDefinition`, `memory`. Those of a quarter of a processor are in [`QUARTER`].
const RANGES: [(u32, u32, u32, u32); 6] = [
    (512, GB, 4 * GB, GB),
    (1024, 2 * GB, 8 * GB, GB),
    (2048, 4 * GB, 16 * GB, GB),
    (4096, 8 * GB, 30 * GB, GB),
    (8192, 16 * GB, 60 * GB, 4 * GB),
    (16384, 32 * GB, 120 * GB, 8 * GB),
];

/// What a task of a quarter of a processor has, in MiB: from half a GB on.
const QUARTER: [u32; 3] = [GB / 2, GB, 2 * GB];

/// What a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size {
    /// In CPU units: 1024 are a virtual processor.
    pub cpu: u32,
    /// In MiB.
    pub memory: u32,
    pub architecture: Architecture,
}

impl Size {
    /// The size of this name; none: Fargate has none such.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (text, architecture) = match name.strip_suffix(ARM) {
            Some(text) => (text, Architecture::Arm),
            None => (name, Architecture::X86),
        };
        let (cpu, memory) = text.split_once('-')?;
        let count = |text: &str, unit: &str, of: u32| {
            let number: Decimal = text.strip_suffix(unit)?.parse().ok()?;
            let whole = number.checked_mul(Decimal::from(of))?;
            whole.fract().is_zero().then(|| u32::try_from(whole).ok())?
        };
        let size = Self {
            cpu: count(cpu, "vcpu", UNITS)?,
            memory: count(memory, "gb", GB)?,
            architecture,
        };
        // Each has one name, so that what is sold and what runs are called alike.
        (size.is_sold() && size.to_string() == name).then_some(size)
    }

    fn is_sold(self) -> bool {
        if self.cpu == UNITS / 4 {
            return QUARTER.contains(&self.memory);
        }
        RANGES.iter().any(|(cpu, least, most, step)| {
            self.cpu == *cpu
                && (*least..=*most).contains(&self.memory)
                && (self.memory - least).is_multiple_of(*step)
        })
    }

    /// Every size of this architecture.
    pub(super) fn all(architecture: Architecture) -> Vec<Self> {
        let quarter = QUARTER.iter().map(|memory| (UNITS / 4, *memory));
        let ranges = RANGES.iter().flat_map(|(cpu, least, most, step)| {
            (0..=(most - least) / step).map(move |n| (*cpu, least + n * step))
        });
        let all = quarter.chain(ranges);
        all.map(|(cpu, memory)| Self {
            cpu,
            memory,
            architecture,
        })
        .collect()
    }

    /// Virtual processors, rounded up: a part of one is one.
    pub(super) fn processors(self) -> u32 {
        self.cpu.div_ceil(UNITS)
    }

    /// What an hour costs, by the hour of a virtual processor and of a GB.
    pub(super) fn hourly(self, processor: Decimal, gb: Decimal) -> Decimal {
        let cpu = Decimal::from(self.cpu) * processor / Decimal::from(UNITS);
        cpu + Decimal::from(self.memory) * gb / Decimal::from(GB)
    }

    /// As a task definition names its processor.
    pub(super) fn architecture_word(self) -> &'static str {
        match self.architecture {
            Architecture::X86 => "X86_64",
            Architecture::Arm => "ARM64",
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |count: u32, of: u32| (Decimal::from(count) / Decimal::from(of)).normalize();
        let arm = match self.architecture {
            Architecture::X86 => "",
            Architecture::Arm => ARM,
        };
        let (cpu, memory) = (part(self.cpu, UNITS), part(self.memory, GB));
        f.pad(&format!("{cpu}vcpu-{memory}gb{arm}"))
    }
}

/// The name that was most likely meant, where one is near.
pub(super) fn nearest(name: &str) -> Option<String> {
    let architecture = if name.contains("arm") {
        Architecture::Arm
    } else {
        Architecture::X86
    };
    let all = Size::all(architecture).into_iter().map(|size| size.to_string());
    let scored = all.map(|other| (strsim::jaro_winkler(name, &other), other));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= 0.7).then_some(best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_those_of_the_reference() {
        let size = |name| Size::parse(name).map(|size| (size.cpu, size.memory));
        assert_eq!(size("0.25vcpu-0.5gb"), Some((256, 512)));
        assert_eq!(size("0.5vcpu-4gb"), Some((512, 4096)));
        assert_eq!(size("4vcpu-30gb"), Some((4096, 30720)));
        assert_eq!(size("8vcpu-60gb"), Some((8192, 61440)));
        assert_eq!(size("16vcpu-120gb-arm64"), Some((16384, 122_880)));
        for wrong in [
            "0.25vcpu-3gb",
            "0.5vcpu-0.5gb",
            "1vcpu-2.5gb",
            "4vcpu-31gb",
            "8vcpu-17gb",
            "3vcpu-8gb",
            "1vcpu-2gb-arm",
            "1 vcpu-2gb",
            "1.0vcpu-2gb",
            "01vcpu-2gb",
            "1vcpu",
            "-",
            "",
            "99999999999999999999999999999vcpu-2gb",
            "c6i.large",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_size_reads_back_from_its_name_and_there_is_none_twice() {
        let all: Vec<Size> = [Architecture::X86, Architecture::Arm]
            .into_iter()
            .flat_map(Size::all)
            .collect();
        let names: std::collections::BTreeSet<_> = all.iter().map(ToString::to_string).collect();
        // 3 + 4 + 7 + 13 + 23 + 12 + 12, twice.
        assert_eq!((all.len(), names.len()), (148, 148));
        for size in all {
            assert_eq!(Size::parse(&size.to_string()), Some(size));
        }
    }

    #[test]
    fn an_hour_costs_its_share_of_both() {
        let price = |name: &str| {
            let size = Size::parse(name).unwrap();
            size.hourly(Decimal::new(4656, 5), Decimal::new(511, 5))
                .normalize()
                .to_string()
        };
        assert_eq!(price("1vcpu-2gb"), "0.05678");
        assert_eq!(price("0.25vcpu-0.5gb"), "0.014195");
    }

    #[test]
    fn what_was_meant_is_told() {
        assert_eq!(nearest("1vcpu-1gb").as_deref(), Some("1vcpu-8gb"));
        assert_eq!(nearest("0.25vcpu-512mb"), Some("0.25vcpu-2gb".to_owned()));
        assert_eq!(nearest("t3.large"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_size_that_is_called_otherwise(text in "[0-9.]{0,4}vcpu-[0-9.]{0,4}gb(-arm64)?") {
            if let Some(size) = Size::parse(&text) {
                prop_assert_eq!(size.to_string(), text);
            }
        }
    }
}
