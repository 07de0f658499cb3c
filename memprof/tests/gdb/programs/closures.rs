// Panics that are caught, closures, collections, formatting and a thread.
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
};

enum Tree {
    Leaf(String),
    Node(Vec<Tree>),
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Leaf(name) => write!(f, "{name:>12}"),
            Tree::Node(children) => {
                children.iter().try_for_each(|child| write!(f, "({})", child.to_string().to_uppercase()))
            }
        }
    }
}

#[inline(never)]
fn grow(depth: usize) -> Tree {
    match depth {
        0 => Tree::Leaf(format!("leaf {depth}")),
        _ => Tree::Node((0..2).map(|child| grow(depth - 1 - child.min(depth - 1))).collect()),
    }
}

#[inline(never)]
fn fails(depth: usize, mut path: Vec<String>) -> usize {
    path.push(format!("step {depth}"));
    if depth == 0 {
        let index = black_box(path.len());
        return path[index].len();
    }
    fails(depth - 1, path.clone()) + path.len()
}

#[inline(never)]
fn compose(functions: Vec<Box<dyn Fn(String) -> String + Send>>) -> Box<dyn Fn(String) -> String + Send> {
    Box::new(move |text| functions.iter().fold(text, |text, function| function(text)))
}

#[inline(never)]
fn work(rounds: usize) -> usize {
    let mut words: HashMap<String, Vec<usize>> = HashMap::new();
    let mut sorted = BTreeMap::new();
    let mut queue = VecDeque::new();
    for round in 0..rounds {
        words.entry(format!("word {}", round % 11)).or_default().push(round);
        sorted.entry(round * 7 % 31).or_insert_with(|| Box::new([round; 5]));
        queue.push_back(round.to_string());
    }
    let twice = compose(vec![Box::new(|text| text.repeat(2)), Box::new(|text| format!("<{text}>"))]);
    let thrice = compose(vec![twice, Box::new(|text: String| text.chars().rev().collect())]);
    let caught = (0..12).filter(|depth| catch_unwind(AssertUnwindSafe(|| fails(*depth, vec![]))).is_err()).count();
    let text = thrice(grow(5).to_string());
    let mut lines: Vec<String> = text.split('<').map(str::to_owned).collect();
    lines.sort_by_key(|line| line.to_lowercase());
    caught + words.len() + sorted.len() + queue.len() + lines.concat().len()
}

fn main() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::panic::set_hook(Box::new(|info| drop(black_box(info.to_string()))));
    let thread = std::thread::spawn(|| work(40));
    black_box(thread.join().unwrap() + work(60));
}
