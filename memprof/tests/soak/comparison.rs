//! Whether a report says what the traffic did: to the unit, or within what was counted as lost.

use std::ops::Range;

use serde_json::Value;

use super::{
    rounds::{Mode, Round},
    truth::{Account, Amount, Children, Key, OfKey, Reported, Truth},
};
use crate::support::{ProcessReport, Report, schema::assert_contract};

/// No block of the traffic is larger.
const LARGEST: u64 = 4 << 20;

/// What libc holds for threads and libraries, at most: what it keeps of each thread and, in reserve, of some that have ended.
const OTHERS: Amount = Amount { blocks: 200, bytes: 256 << 10 };

/// Estimates are allowed to be so many of their standard errors off, where these are known well enough.
const STANDARD_ERRORS: f64 = 8.0;

/// Events lost, by what they bring about.
#[derive(Clone, Copy, Debug)]
struct Losses {
    /// Allocations that were counted, and then forgotten.
    forgotten: u64,
    /// Calls that were not followed: nothing is known of them, be it that they allocate, resize, or fail.
    not_followed: u64,
    /// Frees.
    frees: u64,
    /// Allocations of which the stack is not known.
    stacks: u64,
}

impl Losses {
    fn of(report: &Report) -> Self {
        let causes = report.0["lost"]["causes"].as_object().unwrap();
        let known = ["nursery_full", "in_flight_full", "frees_ring_full", "stacks_ring_full", "stacks_table_full"];
        for (cause, count) in causes {
            assert!(known.contains(&cause.as_str()) || *count == 0, "{count} lost by {cause}");
        }
        let of = |cause: &str| causes[cause].as_u64().unwrap();
        Self {
            forgotten: of("nursery_full"),
            not_followed: of("in_flight_full"),
            frees: of("frees_ring_full"),
            stacks: of("stacks_ring_full") + of("stacks_table_full"),
        }
    }

    /// Blocks that are shown at most and are not there: their free was lost, or was that of a call that resized them and was not followed.
    fn phantoms(self) -> u64 {
        self.frees + self.not_followed
    }

    /// Blocks that are there at most and are not shown, or not at their stack.
    fn missing(self) -> u64 {
        self.forgotten + self.not_followed + self.stacks
    }
}

/// What every report is checked for, and what is remembered of earlier ones.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The most bytes that a report has said to be outstanding.
    most_reported: u64,
}

impl Comparison {
    /// Compares a report that was asked for and told within this time, while the traffic rested. The time is in seconds of the
    /// monotonic clock.
    pub fn check(&mut self, round: &Round, pid: u32, report: &Report, truth: &Truth, during: &Range<f64>) {
        assert_contract(&report.0);
        let losses = Losses::of(report);
        let process = report.process_of(pid);
        let account = Account::of(&process);
        if round.is_alone {
            assert_eq!(account.others, Default::default(), "there is nobody else: {:?}", process.stacks());
        }
        match round.mode {
            Mode::Sample => check_sample(round, &process, &account, truth),
            Mode::Windows => check_windows(&account, truth),
            Mode::Plain | Mode::Libraries | Mode::SmallTables | Mode::Children => {
                check_keys(&account, truth, losses);
                check_process(round, &process, &account, truth, losses);
            }
        }
        if matches!(round.mode, Mode::Plain | Mode::Sample | Mode::Windows) {
            assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
        }
        if round.mode != Mode::Sample && losses.phantoms() == 0 {
            check_ages(&account, truth, during);
        }
        if round.mode == Mode::Children {
            check_children(children(report, pid), truth.children, losses);
        }
        self.check_peak(round, &process, truth, losses);
    }

    /// The peak is at least what was ever reported, and at most what was ever there.
    fn check_peak(&mut self, round: &Round, process: &ProcessReport<'_>, truth: &Truth, losses: Losses) {
        let peak = process.0["peak"]["bytes"].as_u64().unwrap();
        self.most_reported = self.most_reported.max(process.outstanding().0);
        assert!(peak >= self.most_reported, "{peak} at the peak, {} reported", self.most_reported);
        if round.mode != Mode::Sample {
            let most = truth.most_live + OTHERS.bytes + losses.phantoms() * LARGEST;
            assert!(peak <= most, "{peak} at the peak, at most {most} in truth");
        }
    }
}

/// Each key: what is shown too much in all is no more than there can be of phantoms, and what is missing no more than what was lost. So
/// without losses, all are equal.
fn check_keys(account: &Account, truth: &Truth, losses: Losses) {
    let (mut more, mut fewer) = (Amount::default(), Amount::default());
    let mut not_counted = Amount::default();
    let mut wrong = Vec::new();
    for (key, of_key) in &truth.keys {
        let reported = account.keys.get(key).copied().unwrap_or_default().sums;
        let sums = of_key.sums;
        more += reported.held.surplus(sums.held);
        fewer += sums.held.surplus(reported.held);
        not_counted += sums.allocated.surplus(reported.allocated);
        let uncalled_for = reported.allocated.surplus(sums.allocated);
        assert!(uncalled_for.is_nothing(), "{key:?}: {uncalled_for:?} was never allocated there");
        if reported != sums {
            wrong.push((key, reported, sums));
        }
    }
    for key in account.keys.keys() {
        assert!(truth.keys.contains_key(key), "nothing was allocated at {key:?}");
    }
    let assert_within = |what: &str, amount: Amount, blocks: u64| {
        let is_within = amount.blocks <= blocks && amount.bytes <= blocks * LARGEST;
        assert!(is_within, "{what}: {amount:?}, and {losses:?}; reported and in truth: {wrong:#?}");
    };
    assert_within("shown and not there", more, losses.phantoms());
    assert_within("there and not shown", fewer, losses.missing());
    assert_within("not counted", not_counted, losses.not_followed + losses.stacks);
}

/// The process as a whole.
fn check_process(round: &Round, process: &ProcessReport<'_>, account: &Account, truth: &Truth, losses: Losses) {
    let (bytes, blocks) = process.outstanding();
    let [allocations, allocated, frees, freed] = process.totals();
    // Each allocation that was counted is outstanding, or freed, or was forgotten.
    assert_eq!(allocations - frees - blocks, losses.forgotten, "{:?} {losses:?}", process.totals());
    let forgotten = allocated - freed - bytes;
    assert!(forgotten <= losses.forgotten * LARGEST, "{forgotten} bytes forgotten, {losses:?}");
    // And is at a stack, be it an unknown one. One that lost its stack has been seen to count twice: probably a failed resize, whose stack
    // had been forgotten meanwhile.
    let (at_stacks, counted) = (account.allocated(), Amount::new(allocations, allocated));
    assert!(counted.surplus(at_stacks).is_nothing(), "{counted:?}, at stacks {at_stacks:?}, {losses:?}");
    let twice = at_stacks.surplus(counted);
    let is_within = twice.blocks <= losses.stacks && twice.bytes <= losses.stacks * LARGEST;
    assert!(is_within, "{twice:?} counted twice, {losses:?}");
    assert!(account.unknown.allocated.blocks <= losses.stacks, "{:?} {losses:?}", account.unknown);
    let all = truth.allocated();
    if round.is_alone {
        let not_counted = all.blocks - allocations;
        assert!(not_counted <= losses.not_followed, "{not_counted} not counted, {losses:?}");
        let bytes = all.bytes - allocated;
        assert!(bytes <= losses.not_followed * LARGEST, "{bytes} bytes not counted, {losses:?}");
    }
    let others = account.others.held;
    assert!(others.surplus(OTHERS).is_nothing(), "{others:?}");
    // With unknown stacks: these alone may be others'.
    let ours = Amount::new(blocks, bytes).surplus(others);
    let surplus = ours.surplus(truth.held());
    let most = losses.phantoms() + losses.stacks;
    assert!(surplus.blocks <= most && surplus.bytes <= most * LARGEST, "{surplus:?} {losses:?}");
    let missing = truth.held().surplus(ours);
    let most = losses.forgotten + losses.not_followed;
    assert!(missing.blocks <= most && missing.bytes <= most * LARGEST, "{missing:?} {losses:?}");
}

/// The oldest and the youngest block of each key.
fn check_ages(account: &Account, truth: &Truth, during: &Range<f64>) {
    /// Of a floating-point number of seconds, far below what the clock's calls take.
    const ROUNDING: f64 = 1e-6;
    for (key, of_key) in &truth.keys {
        let Some(Reported { sums, ages: Some(ages) }) = account.keys.get(key) else { continue };
        // Of those of which some blocks only were observed, the ages are others.
        let (OfKey { sums: of_truth, ages: Some(moments) }, true) = (of_key, sums.held == of_key.sums.held) else {
            continue;
        };
        for (age, moment) in [(ages.0, moments.0), (ages.1, moments.1)] {
            let allowed = during.start - moment.before - ROUNDING..=during.end - moment.after + ROUNDING;
            assert!(allowed.contains(&age), "{key:?} with {of_truth:?}: {age} s old, not {allowed:?}");
        }
    }
}

/// What is freed leaves nothing; allocations are all counted; what is always taken is exact; the rest is estimated.
fn check_sample(round: &Round, process: &ProcessReport<'_>, account: &Account, truth: &Truth) {
    for key in account.keys.keys() {
        assert!(truth.keys.contains_key(key), "nothing was allocated at {key:?}");
    }
    for (key, OfKey { sums, .. }) in &truth.keys {
        let reported = account.keys.get(key).copied().unwrap_or_default().sums;
        if sums.held.blocks == 0 || key.0 == "site_large" {
            assert_eq!(reported.held, sums.held, "{key:?}");
        }
        if key.0 == "site_large" {
            assert_eq!(reported.allocated, sums.allocated, "{key:?}");
        }
    }
    let [allocations, allocated, frees, freed] = process.totals();
    let (counted, all) = (Amount::new(allocations, allocated), truth.allocated());
    assert!(if round.is_alone { counted == all } else { all.surplus(counted).is_nothing() }, "{counted:?} {all:?}");
    let (bytes, blocks) = process.outstanding();
    assert_eq!((allocations.saturating_sub(blocks), allocated.saturating_sub(bytes)), (frees, freed));
    if round.is_alone {
        check_estimate("bytes", bytes, &process.0["standard_error"], truth.held().bytes);
        check_estimate("allocations", blocks, &process.0["standard_error"], truth.held().blocks);
    }
}

/// Where there are some hundred samples, by which the standard error is known.
fn check_estimate(what: &str, estimate: u64, errors: &Value, truth: u64) {
    let error = errors[what].as_f64().unwrap();
    let is_known = error > 0.0 && error < 0.1 * estimate as f64;
    let off = estimate.abs_diff(truth) as f64;
    assert!(!is_known || off <= STANDARD_ERRORS * error + 0.5, "{what}: {estimate} ± {error}, not {truth}");
}

/// What is observed is a part of what there is.
fn check_windows(account: &Account, truth: &Truth) {
    let nothing = (Key::default(), OfKey { sums: Default::default(), ages: None });
    for (key, reported) in &account.keys {
        let of_truth = truth.keys.get(key).unwrap_or(&nothing.1).sums;
        let surplus = [reported.sums.held.surplus(of_truth.held), reported.sums.allocated.surplus(of_truth.allocated)];
        assert!(surplus.into_iter().all(Amount::is_nothing), "{key:?}: {surplus:?} more than there is");
    }
    assert_eq!(account.unknown, Default::default());
}

/// Processes that have ended, taken together: they are all there, and what they allocated was counted whatever was lost of it.
fn check_children(reported: Children, truth: Children, losses: Losses) {
    assert_eq!((reported.processes, reported.allocated), (truth.processes, truth.allocated), "{losses:?}");
    let (more, fewer) = (reported.held.surplus(truth.held), truth.held.surplus(reported.held));
    let (phantoms, forgotten) = (losses.phantoms(), losses.forgotten);
    let is_within = |amount: Amount, blocks: u64| amount.blocks <= blocks && amount.bytes <= blocks * LARGEST;
    let is_right = is_within(more, phantoms) && is_within(fewer, forgotten);
    assert!(is_right, "{reported:?}, in truth {truth:?}, {losses:?}");
    if losses.frees + losses.forgotten + losses.not_followed == 0 {
        assert_eq!(reported, truth);
    }
}

/// All processes but one, those included that are only sums.
fn children(report: &Report, pid: u32) -> Children {
    let mut all = Children::default();
    let mut add = |processes: u64, of: &Value| {
        let amount = |object: &str, blocks: &str, bytes: &str| {
            let figure = |name: &str| of[object][name].as_u64().unwrap();
            Amount::new(figure(blocks), figure(bytes))
        };
        all.processes += processes;
        all.held += amount("outstanding", "allocations", "bytes");
        all.allocated += amount("totals", "allocations", "allocated_bytes");
        all.freed += amount("totals", "frees", "freed_bytes");
    };
    let shown = report.0["processes"].as_array().unwrap();
    shown.iter().filter(|process| process["pid"] != pid).for_each(|process| add(1, process));
    if let Some(ended) = report.0.get("ended_processes").filter(|ended| !ended.is_null()) {
        add(ended["processes"].as_u64().unwrap(), ended);
    }
    all
}
