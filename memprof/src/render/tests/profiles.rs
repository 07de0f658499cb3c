//! Saved profiles, read as messages and written out for people, much as `go tool pprof -raw` does.

use super::*;
use crate::{
    model::BlockGroup,
    pprof::{
        Limits, Tables, decode,
        wire::{Line, Location, Mapping, Sample},
    },
};

struct Listing<'a>(Tables<'a>);

fn listed(bytes: &[u8]) -> Result<String, Box<dyn Error>> {
    let profile = decode(bytes, &Limits::default())?;
    let listing = Listing(Tables::new(&profile));
    let types =
        profile.sample_type.iter().map(|of| format!("{}/{}", listing.string(of.r#type), listing.string(of.unit)));
    let mut lines = vec![
        format!("{}; first {}", types.collect::<Vec<_>>().join(" "), listing.string(profile.default_sample_type)),
        format!("at {} for {} ns, period {}", profile.time_nanos, profile.duration_nanos, profile.period),
    ];
    lines.extend(profile.sample.iter().map(|sample| listing.sample(sample)));
    lines.extend(profile.location.iter().map(|location| listing.location(location)));
    lines.extend(profile.mapping.iter().map(|mapping| listing.mapping(mapping)));
    lines.extend(profile.comment.iter().map(|index| listing.comment(*index)));
    Ok(lines.join("\n"))
}

impl Listing<'_> {
    fn string(&self, index: i64) -> String {
        self.0.string(index).into_owned()
    }

    /// With the notes in lines, and without the version, which changes.
    fn comment(&self, index: i64) -> String {
        let version = format!("memprof {}", env!("CARGO_PKG_VERSION"));
        self.string(index).replace("},", "},\n  ").replace(&version, "memprof VERSION")
    }

    fn sample(&self, sample: &Sample) -> String {
        let labels = sample.label.iter().map(|label| {
            let value = if label.str == 0 { label.num.to_string() } else { self.string(label.str) };
            format!(" {}={value}{}", self.string(label.key), self.string(label.num_unit))
        });
        format!("{:?}: {:?}{}", sample.value, sample.location_id, labels.collect::<String>())
    }

    fn location(&self, location: &Location) -> String {
        let Location { id, mapping_id, address, .. } = location;
        let lines: String = location.line.iter().map(|line| self.line(line)).collect();
        format!("location {id}: mapping {mapping_id} {address:#x}{lines}")
    }

    fn line(&self, line: &Line) -> String {
        let function = self.0.function(line.function_id).copied().unwrap_or_default();
        format!(", {:?} {}:{}", self.string(function.name), self.string(function.filename), line.line)
    }

    fn mapping(&self, mapping: &Mapping) -> String {
        let Mapping { id, memory_start, memory_limit, file_offset, .. } = mapping;
        let has = [
            (mapping.has_functions, "functions"),
            (mapping.has_filenames, "files"),
            (mapping.has_line_numbers, "lines"),
            (mapping.has_inline_frames, "inlined"),
        ];
        let has: Vec<_> = has.into_iter().filter(|(has, _)| *has).map(|(_, what)| what).collect();
        let (path, build_id) = (self.string(mapping.filename), self.string(mapping.build_id));
        format!(
            "mapping {id}: {memory_start:#x}..{memory_limit:#x} from {file_offset:#x} of {path} ({build_id}), has {}",
            has.join(" ")
        )
    }
}

fn written(report: &Report) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut output = Vec::new();
    Format::Pprof.write(report, &Style { colour: false, time_zone: TimeZone::UTC }, &mut output)?;
    Ok(output)
}

/// The notes too: whatever changes in them, profiles that were saved before must be read.
#[test]
fn a_profile_is_as_reviewed() -> Outcome {
    let mut report = full_report();
    let stack = &mut report.processes[0].stacks[0];
    let group = |size, allocations, seconds| BlockGroup {
        size,
        age: Duration::from_secs(seconds),
        outstanding: Outstanding { bytes: size * allocations, allocations },
    };
    stack.groups = vec![group(16_384, 1983, 250), group(18_784, 1, 3)];
    let other = ProcessSnapshot { outstanding: Outstanding { bytes: 7, allocations: 1 }, ..process(Vec::new()) };
    report.processes.push(other);
    let ended = EndedProcesses { processes: 2, ..EndedProcesses::default() };
    let report =
        Report { losses: report_with_losses().losses, warnings: report_with_losses().warnings, ended, ..report };
    assert_snapshot!(listed(&written(&report)?)?);
    Ok(())
}

#[test]
fn a_difference_of_profiles_is_as_reviewed() -> Outcome {
    let mut output = Vec::new();
    let style = Style { colour: false, time_zone: TimeZone::UTC };
    Format::Pprof.write_difference(&pages::difference(), &style, &mut output)?;
    assert_snapshot!(listed(&output)?);
    Ok(())
}

/// Elsewhere nothing else tells that figures are not of the end.
#[test]
fn a_profile_says_whether_its_figures_are_of_the_peak() -> Outcome {
    let now = listed(&written(&full_report())?)?;
    let peak = listed(&written(&Report { moment: Moment::Peak, ..full_report() })?)?;
    let said = "\ninuse figures are of the moment at which each process held most\n";
    assert!(peak.contains(said) && !now.contains(said), "{peak}");
    Ok(())
}
