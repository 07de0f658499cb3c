//! The case that started it all: a plain `gcc -g` program, position-independent and with address randomization, whose
//! two leaking lines glibc's own tools cannot name.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use support::{Program, launch};

const LEAK: &str = r"
#include <stdlib.h>

int main(void) {
    for (int i = 0; i < 2; i++)
        if (!malloc(100)) return 1;
    if (!calloc(16, 16)) return 1;
    free(malloc(50));
    return 0;
}
";

#[test]
fn the_456_bytes_are_found_at_their_two_lines() {
    let program = Program::c(LEAK, &[]);
    let run = launch(&[], &[program.path()]);
    assert!(run.status.success());
    let process = run.last().process();
    assert!(process.exited());
    assert_eq!(process.outstanding(), (456, 3));
    assert_eq!(process.totals(), [4, 506, 1, 50]);
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("malloc(100)"))), (200, 2));
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("calloc(16, 16)"))), (256, 1));
    assert_eq!(process.stacks().len(), 2);
    assert!(process.stacks().iter().all(|stack| stack.functions()[0].as_deref() == Some("main")));
    assert_eq!(run.last().lost(), (0, 0, 0));
}
