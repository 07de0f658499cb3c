//! When the allocations of one process are observed.
//!
//! Time is divided into cycles of ten seconds or more. Each has one window, as long as the budget allows, at a random place; one
//! that reaches beyond the end of its cycle goes on at the beginning of the same cycle, so that each moment has the same chance. The first
//! second is observed as a whole, to learn what it costs. Where all can be observed within the limit, all is.
//!
//! The budget is a share of the processor time that the process has for itself, of the last half-minute, and of all since the start:
//! what a window has cost too much, the next ones make up for. What was saved long ago is not spent later.

use super::Cost;

/// The first window, and seconds of the shortest.
const FIRST: f64 = 1.0;
const SHORTEST: f64 = 0.5;

/// Seconds of a cycle. Longer where the shortest window were too much of it.
const CYCLE: f64 = 10.0;
const LONGEST_CYCLE: f64 = 30.0;

/// Probes are attached so long before a window, in seconds, and left in where the next is so near: to detach them takes a second
/// or two.
const LEAD: f64 = 0.3;
const NEAR: f64 = 3.0;

/// Windows are made for this part of the limit: the rest is for what is not foreseen.
const AIM: f64 = 0.85;

/// Above this share, everything is observed.
const WHOLE: f64 = 0.9;

/// For so many seconds: then it is decided anew.
const WHOLE_CYCLE: f64 = 2.0;

/// Seconds in which the account forgets one half.
const HALF_LIFE: f64 = 20.0;

/// Seconds after which, and processor time after which, the cost of frees is certain enough to give up; and where it is so many
/// times the limit, earlier.
const LEAST_SECONDS: f64 = 5.0;
const LEAST_PROCESSOR_TIME: f64 = 0.2;
const MANY_TIMES: f64 = 3.0;

/// What the probes of allocations are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probes {
    /// Attached.
    Attached,
    /// Detached.
    Detached,
    /// As they are: not worth to be changed.
    Either,
}

/// What is to be at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether allocations are observed.
    pub is_open: bool,
    /// The probes.
    pub probes: Probes,
}

/// The controller of one process.
#[derive(Clone, Debug)]
pub struct Governor {
    limit: f64,
    random: SplitMix,
    cycle: Cycle,
    /// Where in the next cycle its window will begin, as a fraction of it.
    next_place: f64,
    /// Seconds since the start.
    now: f64,
    account: Account,
}

#[derive(Clone, Copy, Debug)]
struct Cycle {
    start: f64,
    length: f64,
    window: f64,
    /// When the window begins, from the start of the cycle.
    begin: f64,
}

/// Sums of nanoseconds, of which half is forgotten in [`HALF_LIFE`].
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    own: f64,
    cost: Cost,
    /// While allocations were observed.
    own_in_windows: f64,
    /// From the start, nothing of which is forgotten.
    all_own: f64,
    all_cost: f64,
}

impl Governor {
    /// Begins with a window.
    pub fn new(limit: f64, seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let cycle = Cycle { start: 0.0, length: FIRST, window: FIRST, begin: 0.0 };
        Self { limit, next_place: random.fraction(), random, cycle, now: 0.0, account: Account::default() }
    }

    /// Takes in what happened until `now`, seconds since the start: the cost, and the processor time that the process had for
    /// itself, in nanoseconds; and whether allocations were observed.
    pub fn account(&mut self, now: f64, cost: Cost, own: f64, was_open: bool) {
        let kept = 0.5f64.powf((now - self.now).max(0.0) / HALF_LIFE);
        let account = &mut self.account;
        account.own = account.own * kept + own;
        account.all_own += own;
        account.all_cost += cost.total();
        account.cost.windowed = account.cost.windowed * kept + cost.windowed;
        account.cost.permanent = account.cost.permanent * kept + cost.permanent;
        account.own_in_windows = account.own_in_windows * kept + if was_open { own } else { 0.0 };
        self.now = now;
    }

    /// Whether frees alone, and calls that resize, are above the limit.
    pub fn is_hopeless(&self) -> bool {
        let (limit, own) = (self.limit, self.account.own);
        let is_above = |times: f64| self.account.cost.permanent > times * limit * own;
        let is_certain = self.now >= LEAST_SECONDS && is_above(1.0) || self.now >= FIRST && is_above(MANY_TIMES);
        is_certain && own + self.account.cost.total() >= LEAST_PROCESSOR_TIME * 1e9
    }

    /// What the calls that cannot be done without cost, of the process's own time.
    pub fn permanent_ratio(&self) -> f64 {
        self.account.cost.permanent / self.account.own.max(1.0)
    }

    /// Whether the current cycle is over.
    pub fn is_over(&self) -> bool {
        self.now >= self.cycle.start + self.cycle.length
    }

    /// Seconds of the current cycle, and of its window.
    pub fn cycle(&self) -> (f64, f64) {
        (self.cycle.length, self.cycle.window)
    }

    /// Begins a cycle now. Returns its seconds, and those of its window.
    pub fn begin_cycle(&mut self) -> (f64, f64) {
        let (length, window) = self.plan();
        self.cycle = Cycle { start: self.now, length, window, begin: self.next_place * length };
        self.next_place = self.random.fraction();
        (length, window)
    }

    /// Seconds of the next cycle and of its window, which may be at the very beginning: so it costs what has been saved by now.
    fn plan(&self) -> (f64, f64) {
        let account = &self.account;
        if account.cost.windowed <= 0.0 || account.own_in_windows <= 0.0 {
            return (WHOLE_CYCLE, WHOLE_CYCLE);
        }
        // What probes cost that are in before a window, and that are not out yet after it, is due to the window.
        let of_windows = account.cost.windowed / account.own_in_windows;
        let room = AIM * self.limit - self.permanent_ratio();
        if room >= WHOLE * of_windows {
            return (WHOLE_CYCLE, WHOLE_CYCLE);
        }
        let saved = |own: f64, cost: f64| AIM * self.limit * own - cost;
        let saved = saved(account.own, account.cost.total()).min(saved(account.all_own, account.all_cost));
        let remembered = (HALF_LIFE / std::f64::consts::LN_2).min(self.now).max(1e-3);
        let own_of_a_second = (account.own / remembered).max(1.0);
        let affordable = saved / (own_of_a_second * of_windows);
        // Until the shortest window is saved for, if it cannot be afforded yet.
        let length = (SHORTEST - affordable) * of_windows / room.max(1e-9);
        let length = length.clamp(CYCLE, LONGEST_CYCLE);
        (length, affordable.clamp(SHORTEST, WHOLE * length))
    }

    /// What is to be at `now`.
    pub fn wanted(&self, now: f64) -> Wanted {
        let is_open = self.cycle.is_open(now - self.cycle.start);
        let until = self.next_opening(now) - now;
        let probes = match () {
            () if is_open || until <= LEAD => Probes::Attached,
            () if until <= NEAR => Probes::Either,
            () => Probes::Detached,
        };
        Wanted { is_open, probes }
    }

    /// When the account is to be looked at next, or something changes, in seconds.
    pub fn wakes(&self, now: f64) -> f64 {
        const TICK: f64 = 0.25;
        let Cycle { start, length, .. } = self.cycle;
        let opening = self.next_opening(now);
        let times = [opening - LEAD, opening, start + self.cycle.closing(now - start), start + length];
        times.into_iter().filter(|time| *time > now + 1e-4).fold(now + TICK, f64::min)
    }

    /// When the next window begins, if the next cycle is like this one.
    fn next_opening(&self, now: f64) -> f64 {
        let Cycle { start, length, begin, .. } = self.cycle;
        if now < start + begin {
            return start + begin;
        }
        let next = Cycle { start: start + length, begin: self.next_place * length, ..self.cycle };
        if next.is_open(0.0) { next.start } else { next.start + next.begin }
    }
}

impl Cycle {
    /// Whether a moment, from its start, is in the window.
    fn is_open(&self, moment: f64) -> bool {
        self.window >= self.length || (moment - self.begin).rem_euclid(self.length) < self.window
    }

    /// The end of the window that a moment may be in.
    fn closing(&self, moment: f64) -> f64 {
        let end = self.begin + self.window;
        if moment < end - self.length { end - self.length } else { end }
    }
}

/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
#[derive(Clone, Debug)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// From 0 to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
