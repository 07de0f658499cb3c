//! The stacks as a tree, for the script to draw: no frame is said twice where stacks have their outer frames in common.

use std::collections::HashMap;

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use super::{
    super::{
        escape::{visible, visible_path},
        folded::name_of as function_or_object,
    },
    name_of,
};
use crate::model::{Frame, ProcessSnapshot, Report, StackSnapshot};

/// A figure that can be the width of a frame.
struct Metric {
    name: &'static str,
    /// Of a stack.
    value: fn(&StackSnapshot<Frame>) -> u64,
}

const METRICS: [Metric; 6] = [
    Metric { name: "outstanding bytes", value: |stack| stack.outstanding.bytes },
    Metric { name: "outstanding allocations", value: |stack| stack.outstanding.allocations },
    Metric { name: "allocated bytes, freed or not", value: |stack| stack.totals.allocated_bytes },
    Metric { name: "allocations, freed or not", value: |stack| stack.totals.allocations },
    Metric { name: "temporary allocations", value: |stack| stack.totals.temporary.unwrap_or(0) },
    Metric { name: "bytes at the peak", value: |stack| stack.at_peak.bytes },
];

/// Those of which there is something to draw.
fn drawn(report: &Report) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|metric| stacks(report).any(|(_, stack)| (metric.value)(stack) > 0))
}

/// Their names.
pub(super) fn metrics(report: &Report) -> impl Iterator<Item = &'static str> {
    drawn(report).map(|metric| metric.name)
}

/// Room for the graph, and what to draw in it.
pub(super) fn graph(report: &Report) -> Markup {
    html! {
        section.flame {
            h2 { "Flame graph" }
            div #flame role="tree" tabindex="0" aria-label="Flame graph: arrow keys move, Enter widens a frame, Escape goes back" {}
            p #pointed aria-live="polite" {}
            script #stacks type="application/json" { (PreEscaped(for_script(&Tree::new(report)))) }
        }
    }
}

/// JSON without the one character that could end the element which it is in, or begin another. It only occurs in strings.
fn for_script(tree: &Tree) -> String {
    serde_json::to_string(tree).unwrap_or_default().replace('<', r"\u003c")
}

fn stacks(report: &Report) -> impl Iterator<Item = (&ProcessSnapshot<Frame>, &StackSnapshot<Frame>)> {
    report.processes.iter().flat_map(|process| process.stacks.iter().map(move |stack| (process, stack)))
}

/// Frames that stacks share from their outermost one on are one node.
#[derive(Serialize)]
struct Tree {
    metrics: Vec<&'static str>,
    /// What a node is called, and where that is.
    names: Vec<(String, String)>,
    nodes: Vec<Node>,
    #[serde(skip)]
    by_name: HashMap<(String, String), usize>,
    #[serde(skip)]
    children: HashMap<(usize, usize), usize>,
}

/// Its parent, which comes before it; its name; and the figures of the stacks that end there, if any do.
#[derive(Serialize)]
struct Node(usize, usize, #[serde(skip_serializing_if = "Vec::is_empty")] Vec<u64>);

impl Tree {
    fn new(report: &Report) -> Self {
        let metrics: Vec<_> = drawn(report).collect();
        let mut tree = Self {
            metrics: metrics.iter().map(|metric| metric.name).collect(),
            names: Vec::new(),
            nodes: Vec::new(),
            by_name: HashMap::new(),
            children: HashMap::new(),
        };
        let all = tree.name("all".to_owned(), String::new());
        tree.nodes.push(Node(0, all, Vec::new()));
        let are_several = report.processes.len() > 1;
        for (process, stack) in stacks(report) {
            let values: Vec<_> = metrics.iter().map(|metric| (metric.value)(stack)).collect();
            let root = if are_several { tree.child(0, name_of(process), String::new()) } else { 0 };
            tree.add(root, &stack.frames, &values);
        }
        tree
    }

    fn add(&mut self, root: usize, frames: &[Frame], values: &[u64]) {
        let mut node = root;
        for frame in frames.iter().rev() {
            let module = frame.module.as_deref().map(visible_path).unwrap_or_default();
            node = self.child(node, label(frame), module);
        }
        if frames.is_empty() {
            node = self.child(node, "[stack lost]".to_owned(), String::new());
        }
        let sums = &mut self.nodes[node].2;
        sums.resize(values.len(), 0);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.saturating_add(*value));
    }

    fn child(&mut self, parent: usize, name: String, place: String) -> usize {
        let name = self.name(name, place);
        let new = self.nodes.len();
        let node = *self.children.entry((parent, name)).or_insert(new);
        if node == new {
            self.nodes.push(Node(parent, name, Vec::new()));
        }
        node
    }

    fn name(&mut self, name: String, place: String) -> usize {
        let number = self.names.len();
        let known = *self.by_name.entry((name.clone(), place.clone())).or_insert(number);
        if known == number {
            self.names.push((name, place));
        }
        known
    }
}

fn label(frame: &Frame) -> String {
    let name = visible(&function_or_object(frame)).into_owned();
    if frame.inlined { name + " (inlined)" } else { name }
}
