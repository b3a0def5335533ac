//! The races in which a machine could be deleted while it runs a job: how often each happened, and what kept the machine.
//!
//! A race is counted only where it mattered: the machine ran a job, and by what was lied about alone it would have gone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The CI systems that are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One runner is paused.
    Gitlab,
    /// The whole queue is paused.
    Drone,
    /// Nothing is paused: runners leave by themselves.
    Circleci,
    /// A program: one runner is paused, and none is listed.
    Exec,
    /// One agent is disabled; what it is assigned is said late.
    Azure,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gitlab => "gitlab",
            Self::Drone => "drone",
            Self::Circleci => "circleci",
            Self::Exec => "exec",
            Self::Azure => "azure-devops",
        }
    }

    /// Whether jobs are all that is told, each with its runner, and late.
    pub fn lists_late(self) -> bool {
        matches!(self, Self::Drone | Self::Exec)
    }
}

/// A lie, or a turn of events at the worst moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Race {
    /// What says that it is busy says so late.
    FlagLags,
    /// What says that it is busy says for a moment that it is not.
    FlagFlips,
    /// A job is assigned to it, and told as waiting until it has received that.
    NotReceived,
    /// A job came after the reading that the plan goes by, and before the pause took effect.
    LandsBeforePause,
    /// A job was handed out after the pause took effect, within the settle time.
    LandsAfterPause,
    /// A part of the answer is missing.
    PageMissing,
    /// A machine that never became ready in time does, and takes a job.
    LateRegistration,
    /// The pause is refused, or nobody knows whether it was made.
    PauseFails,
    /// The pause is not lifted.
    ResumeFails,
}

impl Race {
    pub const ALL: [Self; 9] = [
        Self::FlagLags,
        Self::FlagFlips,
        Self::NotReceived,
        Self::LandsBeforePause,
        Self::LandsAfterPause,
        Self::PageMissing,
        Self::LateRegistration,
        Self::PauseFails,
        Self::ResumeFails,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::FlagLags => "the busy flag lags",
            Self::FlagFlips => "the busy flag flips during a job",
            Self::NotReceived => "a job is assigned and not yet received",
            Self::LandsBeforePause => "a job lands between reading and pausing",
            Self::LandsAfterPause => "a job is handed out after the pause",
            Self::PageMissing => "a page is missing",
            Self::LateRegistration => "a runner registers after it was thought dead",
            Self::PauseFails => "the pause fails",
            Self::ResumeFails => "the resume fails",
        }
    }

    /// Why it cannot happen at this CI; none where it can.
    pub fn impossible(self, kind: Kind) -> Option<&'static str> {
        match (kind, self) {
            (Kind::Gitlab | Kind::Drone | Kind::Circleci | Kind::Exec, Self::NotReceived) => {
                Some("a job that a runner has taken is not told to be without one")
            }
            (Kind::Drone, Self::FlagFlips) => {
                Some("Drone has no flag: a stage that runs is listed as running until it ends")
            }
            (Kind::Drone, Self::LateRegistration) => {
                Some("Drone tells of no runners: a machine is ready while it runs, and none is thought dead")
            }
            (Kind::Exec, Self::FlagFlips) => Some("there is no flag: this program tells jobs alone"),
            (Kind::Exec, Self::LateRegistration) => Some(
                "this program tells of no runners: a machine is ready while it runs, and none is thought dead",
            ),
            (Kind::Circleci, Self::LandsAfterPause | Self::PauseFails | Self::ResumeFails) => {
                Some("CircleCI has nothing that could be paused")
            }
            _ => None,
        }
    }
}

/// What kept a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Saver {
    /// Its jobs are told one by one, whatever a flag says.
    Jobs,
    /// It is not certain that it runs none.
    Doubt,
    /// The answer said that it was not whole.
    Partial,
    /// Its jobs were read before the pause, and there were some.
    FirstLook,
    /// Its jobs were read after the pause, and there were some, or sources disagreed.
    SecondReading,
    /// Its jobs could not be read after the pause.
    ReadingFailed,
    /// There was no pause, and so no delete.
    NoPause,
    /// It was tried again at once.
    Again,
    /// A later tick lifted the pause that was on record.
    LaterTick,
    /// It left, still paused.
    Left,
    /// Nothing that runs is deleted: it has to leave by itself.
    Leaves,
}

impl Saver {
    fn words(self) -> &'static str {
        match self {
            Self::Jobs => "the list of its jobs",
            Self::Doubt => "what is in doubt is kept",
            Self::Partial => "a partial reading",
            Self::FirstLook => "a look before the pause",
            Self::SecondReading => "the second reading",
            Self::ReadingFailed => "a second reading that failed",
            Self::NoPause => "no delete without a pause",
            Self::Again => "it was tried again",
            Self::LaterTick => "a later tick lifted it",
            Self::Left => "it left while paused",
            Self::Leaves => "what runs is left to leave by itself",
        }
    }
}

/// How often each race happened and mattered, by what kept the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits(BTreeMap<(Race, Saver), u64>);

impl Hits {
    pub fn add(&mut self, race: Race, saver: Saver) {
        *self.0.entry((race, saver)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }

    pub fn of(&self, race: Race) -> u64 {
        let own = self.0.iter().filter(|((hit, _), _)| *hit == race);
        own.map(|(_, count)| count).sum()
    }

    /// One line for each race.
    pub fn table(&self, kind: Kind) -> String {
        let mut text = String::new();
        for race in Race::ALL {
            let _ = write!(text, "  {:<46}", race.words());
            if let Some(why) = race.impossible(kind) {
                let _ = writeln!(text, "{:>7}  cannot happen: {why}", "-");
                continue;
            }
            let savers = self.0.iter().filter(|((hit, _), _)| *hit == race);
            let savers: Vec<String> = savers
                .map(|((_, saver), count)| format!("{} {count}", saver.words()))
                .collect();
            let _ = writeln!(text, "{:>7}  {}", self.of(race), savers.join(", "));
        }
        text
    }
}
