//! What a round's seed decides: how memprof observes, and what the traffic does.

use std::{
    fmt,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::support::{Program, Target};

/// A large block has at least so much (`traffic.c` says so too).
pub const LARGE: u64 = 256 << 10;

/// Where stacks are copied, so much of them may wait.
const RING_OF_COPIES_KIB: u64 = 32 << 10;

/// A way to observe. Rounds take turns with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All defaults.
    Plain,
    /// While libraries come and go.
    Libraries,
    /// With kernel tables that are too small, some of them or all.
    SmallTables,
    /// `--sample`
    Sample,
    /// `--max-overhead`
    Windows,
    /// `--follow-children=exact`
    Children,
}

pub const MODES: [Mode; 6] =
    [Mode::Plain, Mode::SmallTables, Mode::Sample, Mode::Libraries, Mode::Windows, Mode::Children];

/// One run of the traffic, and of memprof on it.
#[derive(Debug)]
pub struct Round {
    pub seed: u64,
    pub mode: Mode,
    /// Of memprof.
    pub options: Vec<String>,
    /// Of the traffic.
    settings: Vec<String>,
    /// Whether nothing but the traffic's sites allocates.
    pub is_alone: bool,
    /// Whether the traffic's end ends memprof too, or a signal does.
    pub ends_with_traffic: bool,
    pub random: Random,
}

impl Round {
    pub fn of(seed: u64) -> Self {
        let mode = MODES[(seed % MODES.len() as u64) as usize];
        let mut random = Random(seed);
        // Two processors' worth of threads and more; a window needs a program that is not at memprof's mercy.
        let workers = if mode == Mode::Windows { 2 } else { random.within(2..6) };
        let slots = if random.one_in(2) { 20_000 } else { random.within(100..20_000) };
        let mut settings = vec![workers.to_string(), slots.to_string()];
        let mut set = |name: &str, value: u64| settings.push(format!("{name}={value}"));
        let turnover = if random.one_in(3) { 0 } else { random.within(5_000..100_000) };
        let is_alone = match mode {
            Mode::Libraries => false,
            // What libc allocates is not to be told from the traffic's.
            Mode::SmallTables => true,
            Mode::Plain | Mode::Sample | Mode::Windows | Mode::Children => turnover == 0,
        };
        set("turnover", if mode == Mode::SmallTables { 0 } else { turnover });
        set("resizes", if mode == Mode::Windows { 1 } else { random.within(5..60) });
        match mode {
            Mode::Plain | Mode::Sample => set("forks", random.within(50_000..200_000)),
            Mode::SmallTables => {}
            // Stacks are copied while code is new: not hundreds of thousands each second.
            Mode::Libraries => {
                set("libraries", random.within(1_000..5_000));
                set("forks", 20_000);
                set("rest", 10);
            }
            Mode::Windows => {
                set("work", 20_000);
                set("forks", 5_000);
            }
            Mode::Children => {
                set("forks", random.within(1_000..5_000));
                set("rest", 10);
            }
        }
        let options = options(mode, &mut random);
        let ends_with_traffic = random.one_in(2);
        Self { seed, mode, options, settings, is_alone, ends_with_traffic, random }
    }

    /// How much of copied stacks may wait at once.
    pub fn copies_kib(&self) -> u64 {
        if matches!(self.mode, Mode::Libraries | Mode::Children) { RING_OF_COPIES_KIB } else { 0 }
    }

    /// Starts the traffic, which waits for a word before it does anything.
    pub fn start(&self, traffic: &Program) -> Target {
        let mut command = Command::new(traffic.path());
        command.arg(self.seed.to_string()).args(&self.settings);
        let mut target = Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        assert_eq!(target.hear(), "ready");
        target
    }
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, mode, options, settings, .. } = self;
        write!(formatter, "seed {seed}: {mode:?}; memprof {}; traffic {}", options.join(" "), settings.join(" "))
    }
}

fn options(mode: Mode, random: &mut Random) -> Vec<String> {
    let mut options: Vec<String> = ["--interval", "1h", "--sort", "churn"].map(str::to_owned).into();
    let mut add = |name: &str, value: String| options.extend([name.to_owned(), value]);
    match mode {
        Mode::Plain | Mode::Windows => {}
        Mode::Libraries => {
            add("--ring-size", format!("{RING_OF_COPIES_KIB}KiB"));
            // Each library that comes or goes gives all stacks other names: the tables take turns often.
            add("--stack-entries", "3000".into());
        }
        Mode::SmallTables => {
            // At least one of them.
            let small = 1 + random.within(0..15);
            let mut add_if = |bit: u32, name: &str, value: String| {
                if small >> bit & 1 == 1 {
                    add(name, value);
                }
            };
            add_if(0, "--nursery-entries", random.within(100..5_000).to_string());
            add_if(1, "--ring-size", format!("{}KiB", 4 << random.within(0..5)));
            add_if(2, "--stack-entries", random.within(20..200).to_string());
            add_if(3, "--threads", random.within(1..4).to_string());
        }
        Mode::Sample => add("--sample", format!("{}B", LARGE >> random.within(0..10))),
        Mode::Children => {
            options.push("--follow-children=exact".into());
            options.extend(["--ring-size".into(), format!("{RING_OF_COPIES_KIB}KiB")]);
        }
    }
    options
}

/// The traffic, and the two libraries that it loads, in one folder.
pub fn compile() -> Program {
    let program = Program::c(
        include_str!("traffic.c"),
        &["-O1", "-fno-builtin", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread", "-w"],
    );
    let source: PathBuf = program.folder().join("library.c");
    std::fs::write(&source, include_str!("library.c")).unwrap();
    for name in ["first.so", "second.so"] {
        // They differ in their build ids, which memprof goes by, and not in where their function is.
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-O1", "-shared", "-fPIC", "-fno-builtin"]).arg(format!("-Wl,-soname={name}"));
        let status = gcc.arg(&source).arg("-o").arg(program.folder().join(name)).status().unwrap();
        assert!(status.success());
    }
    program
}

/// Numbers that depend on the seed alone. Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.within(0..count) == 0
    }
}
