//! Every frame of every stack, as gdb has it: the same object and the same offset in it, from the allocator's caller to
//! the thread's first frame. `docs/gdb.md` says what is compared, and how.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod gdb;
mod support;

use std::collections::{HashMap, HashSet};

use gdb::{Case, Gdb, Stack, What, frames};
use support::{Program, attach};

fn check_program(program: &Program, name: &str, least: u64) {
    Case::new(&[program.path().to_str().unwrap()]).check(name, least);
}

#[test]
fn c_of_a_hundred_and_ten_levels_without_frame_pointers() {
    let program = Program::c(include_str!("gdb/programs/deep.c"), &["-O2", "-fomit-frame-pointer"]);
    check_program(&program, "C, 110 levels", 1100);
}

#[test]
fn cpp_with_exceptions_templates_and_threads() {
    let program = Program::cpp(include_str!("gdb/programs/templates.cc"), &["-O2", "-std=c++17", "-pthread"]);
    check_program(&program, "C++ with threads", 800);
}

#[test]
fn rust_with_panics_and_closures() {
    let program = Program::rust(include_str!("gdb/programs/closures.rs"), &["-Copt-level=3", "--edition=2021"]);
    check_program(&program, "Rust", 1000);
}

#[test]
fn handlers_of_signals_and_faults() {
    let program = Program::c(include_str!("gdb/programs/signals.c"), &["-O2", "-fomit-frame-pointer", "-w"]);
    check_program(&program, "signals", 100);
}

/// Userspace learns of each library while it is already on stacks, and unwinds copies of these by itself.
#[test]
fn libraries_that_have_just_been_mapped() {
    let flags = ["-O2", "-fomit-frame-pointer"];
    let library = |number: usize| {
        let number = format!("-DNUMBER={number}");
        let flags = [&flags[..], &["-shared", "-fPIC", &number]].concat();
        Program::c(include_str!("gdb/programs/library.c"), &flags)
    };
    let libraries: Vec<_> = (1..=16).map(library).collect();
    let program = Program::c(include_str!("gdb/programs/mapped.c"), &flags);
    let paths = [&program].into_iter().chain(&libraries).map(|program| program.path().to_str().unwrap());
    Case::new(&paths.collect::<Vec<_>>()).check("C, new libraries", 16 * 39);
}

/// Where an alarm interrupts is never the same again: both look at one run. memprof has its stack from within `malloc`,
/// gdb from `mark`, which the handler calls next, so that the first frame, the handler's, differs in its pc.
#[test]
fn handlers_of_alarms_at_any_instruction() {
    let flags = ["-O2", "-fomit-frame-pointer", "-Wl,-z,now", "-w"];
    let program = Program::c(include_str!("gdb/programs/alarms.c"), &flags);
    let case = Case::new(&[program.path().to_str().unwrap()]);
    let mut target = case.start();
    let mut memprof = attach(target.pid(), &["--interval", "1h", "--show-allocations", "--min-size", "64B"]);
    memprof.ready();
    let gdb = Gdb::attach(target.pid(), What::Marks);
    case.release(&mut target);
    let marked = gdb.wait().marked();
    let run = memprof.wait();
    let mut stacks: HashMap<u64, Stack> = HashMap::new();
    for stack in run.exact().stacks() {
        assert!(stack.0["truncated"].is_null(), "{stack:?}");
        assert_eq!(stack.functions()[0].as_deref(), Some("handle"));
        let blocks = stack.0["allocations"].as_array().unwrap();
        let address = |block: &serde_json::Value| {
            u64::from_str_radix(block["address"].as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
        };
        stacks.extend(blocks.iter().map(|block| (address(block), frames(&stack))));
    }
    assert_eq!(marked.len(), stacks.len());
    for (pointer, expected) in &marked {
        let found = &stacks[pointer];
        assert_eq!((&found[0].0, &found[1..]), (&expected[0].0, &expected[1..]));
    }
    let distinct: HashSet<_> = marked.iter().map(|(_, stack)| stack).collect();
    eprintln!("alarms: {0} of {0} allocations compared and equal, on {1} stacks", marked.len(), distinct.len());
    assert_eq!(marked.len(), 600);
    assert!(distinct.len() > 200, "all alarms in the same places");
}

const PYTHON: &str = r#"
import sys, re, collections, functools
sys.stdin.readline()

class Item:
    def __init__(self, number):
        self.number = number
    def __lt__(self, other):
        return self.number * 7 % 13 < other.number * 7 % 13
    @functools.cached_property
    def thrice(self):
        return [self.number] * 3

def nested(depth):
    return [depth] if depth == 0 else nested(depth - 1) + [depth]

def generated():
    try:
        yield from (str(number) * 3 for number in range(12))
        int("no number")
    except ValueError as error:
        yield repr(error)

items = sorted(Item(number) for number in range(12))
kept = [item.thrice for item in items], list(generated()), nested(12)
kept += (re.findall(r"(\w+)-(\d+)", "ab-12 cd-34 ef-56"), collections.Counter("abracadabra").most_common())
exec("def made(x, *rest, **named):\n    return f'{x!r:>5}' + ''.join(map(str, rest))\nkept += (made(1, 2, 3, a=4),)")
# A library that is mapped now.
import _json, colorsys
text = "".join(_json.encode_basestring_ascii(f"a \"string\" {number}") for number in range(8))
kept += (text, _json.scanstring(text, 1), colorsys.rgb_to_hsv(1, 2, 3),)
"#;

#[test]
fn python_with_every_object_a_block() {
    let case = Case::new(&["/usr/bin/python3", "-c", PYTHON]);
    case.with("PYTHONMALLOC", "malloc").with("PYTHONHASHSEED", "0").check("python3", 1000);
}

const PERL: &str = r#"
<STDIN>;
my %h;
for my $i (1 .. 60) { $h{"k$i"} = [$i, 'v' x ($i % 50), { a => $i }]; }
my @sorted = sort { $h{$a}[0] <=> $h{$b}[0] } keys %h;
sub nested { my ($n) = @_; return $n ? (nested($n - 1), "x$n") : () }
my @nested = nested(12);
my $text = join ',', map { s/k(\d+)/<$1>/r } @sorted;
my @matches = $text =~ /(<\d+>)/g;
eval { die { code => 5 } };
eval "sub made { my \$x = shift; return sprintf('%05d', \$x) . 'y' } 1";
my @made = map { made($_) } 1 .. 20;
my $object = bless { list => [map { { n => $_ } } 1 .. 20] }, 'Thing';
sub Thing::sum { my $self = shift; my $sum = 0; $sum += $_->{n} for @{ $self->{list} }; return "$sum" }
print scalar(@matches), $text, $object->sum, pack('N*', 1 .. 50), reverse('a' .. 'zz');
"#;

#[test]
fn perl() {
    Case::new(&["/usr/bin/perl", "-e", PERL]).with("PERL_HASH_SEED", "0").check("perl", 1000);
}

const BASH: &str = r#"
read x
for i in {1..15}; do a[$i]=x$i; done
f() { local y=$1; [ $y -gt 0 ] && f $((y - 1)); z="$z-$y"; }
f 6
case ${a[*]} in *x1*) c=${a[*]//x/yy};; esac
declare -A m
for k in p q r s; do m[$k]=$k$k; done
printf -v d '%s:' "${!m[@]}"
while read l; do e+=$l; done <<< "$c"
[[ $d =~ (p).* ]] && g=${BASH_REMATCH[1]}
trap 'q=1' USR1
kill -USR1 $$
eval 'h() { local -a v=("${@:2}"); echo "${v[-1]}" "${1^^}"; }'
h a b c
echo "$d $e $g"
"#;

#[test]
fn bash() {
    Case::new(&["/bin/bash", "-c", BASH]).check("bash", 1500);
}

const SQL: &str = "
create table t(a, b);
with recursive c(x) as (select 1 union all select x + 1 from c where x < 30)
    insert into t select x, printf('row %d', x) from c;
create index i on t(b);
update t set b = upper(b) where a % 3 = 0;
select count(*), group_concat(b) from t group by a % 4 order by 2 desc;
select json_group_array(a) from t join (select b as bb from t) on bb = b where a in (select a from t where a < 9);
create trigger r after insert on t begin delete from t where a = new.a - 10; end;
insert into t select a + 10, b || 'x' from t where a > 25;
create view v as select a, row_number() over (order by b) as n from t;
select * from v where n < 4 union select max(a), min(b) from t;
";

#[test]
fn sqlite3() {
    Case::new(&["/usr/bin/sqlite3", ":memory:"]).input(SQL).check("sqlite3", 1000);
}

#[test]
fn llc() {
    let input = "define i32 @f(i32 %a) {\n  %b = add i32 %a, 1\n  ret i32 %b\n}\n";
    Case::new(&["llc", "-O2", "-o", "/dev/null", "-"]).input(input).check("llc", 1500);
}
