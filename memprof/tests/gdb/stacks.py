# Records the stacks at which the process that gdb is attached to allocates, or calls `mark`: physical frames only, as
# they are on the stack. OUTPUT is the file to write, MARK whether it is about calls of `mark`.

import gdb
import json

ALLOCATORS = ["malloc", "calloc", "realloc", "memalign", "posix_memalign", "valloc", "pvalloc"]

# What gdb makes up: functions that were inlined, and callers that jumped instead of calling.
NOT_ON_THE_STACK = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)

REGULAR_ENDS = (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST)


class Mappings:
    """Of the process: an address is a path and an offset in that file."""

    def __init__(self, pid):
        self.path = f"/proc/{pid}/maps"
        self.places = {}
        self.read()

    def read(self):
        with open(self.path) as maps:
            rows = [line.split(maxsplit=5) for line in maps]
        self.rows = [(*(int(end, 16) for end in row[0].split("-")), int(row[2], 16), row[5].strip())
                     for row in rows if len(row) == 6]

    def find(self, address):
        # A return address can be past the end.
        found = [[path, address - start + offset]
                 for start, end, offset, path in self.rows if start <= address - 1 < end]
        return found[0] if found else None

    def place(self, address):
        if address not in self.places:
            if self.find(address) is None:
                self.read()
            self.places[address] = self.find(address) or [None, address]
        return self.places[address]


class Recorder:
    def __init__(self):
        self.mappings = Mappings(gdb.selected_inferior().pid)
        self.ends = []
        self.counts = {}
        self.marked = []

    def stack(self, frame):
        """The frames' addresses, innermost first. That of a frame that a signal interrupted is one more than its pc: so
        memprof has it, since one less than the address of any frame then lies in the right instruction."""
        addresses, interrupted = [], False
        while frame is not None:
            if frame.type() not in NOT_ON_THE_STACK:
                addresses.append(frame.pc() + int(interrupted))
                interrupted = frame.type() == gdb.SIGTRAMP_FRAME
            last, frame = frame, frame.older()
        if last.unwind_stop_reason() not in REGULAR_ENDS:
            self.ends.append(gdb.frame_stop_reason_string(last.unwind_stop_reason()))
        return tuple(addresses)

    def places(self, stack):
        return [self.mappings.place(address) for address in stack]

    def allocates(self, stack):
        if stack not in self.counts:
            self.places(stack)
        self.counts[stack] = self.counts.get(stack, 0) + 1

    def marks(self, pointer, stack):
        self.marked.append([pointer, self.places(stack)])

    def write(self, path, free):
        stacks = [[count, self.places(stack)] for stack, count in self.counts.items()]
        with open(path, "w") as output:
            json.dump({"free": free, "ends": self.ends, "stacks": stacks, "marked": self.marked}, output)


class Allocator(gdb.Breakpoint):
    """At the first instruction of an allocator function. Its calls of others are no allocations of their own."""

    def __init__(self, name, recorder, ranges):
        super().__init__("*" + name, internal=True)
        self.name, self.recorder, self.ranges = name, recorder, ranges

    def stop(self):
        frame = gdb.newest_frame()
        if not self.is_left_to_another(frame):
            stack = self.recorder.stack(frame)[1:]
            if not any(start <= stack[0] < end for start, end in self.ranges):
                self.recorder.allocates(stack)
        return False

    def is_left_to_another(self, frame):
        """glibc's `realloc` jumps to `malloc` if there is no old block, and frees if the new size is zero; `memalign` jumps
        to `malloc` if that aligns as much."""
        first, second = (int(frame.read_register(name)) for name in ("rdi", "rsi"))
        return self.name == "realloc" and 0 in (first, second) or self.name == "memalign" and first <= 16


class Mark(gdb.Breakpoint):
    """At the first instruction of `mark(pointer)`. What is recorded begins with its caller."""

    def __init__(self, recorder):
        super().__init__("*mark", internal=True)
        self.recorder = recorder

    def stop(self):
        frame = gdb.newest_frame()
        self.recorder.marks(int(frame.read_register("rdi")), self.recorder.stack(frame)[1:])
        return False


def address_of(name):
    return int(gdb.parse_and_eval(f"(unsigned long)&{name}"))


def range_of(name):
    block = gdb.block_for_pc(address_of(name))
    while block.function is None:
        block = block.superblock
    return block.start, block.end


def settings():
    for setting in ["always-inserted on"]:
        gdb.execute("set breakpoint " + setting)
    for setting in ["past-main on", "past-entry on", "limit unlimited"]:
        gdb.execute("set backtrace " + setting)
    gdb.execute("set print thread-events off")
    gdb.execute("handle SIGALRM SIGSEGV SIGUSR1 SIGUSR2 nostop noprint pass", to_string=True)


def main():
    settings()
    recorder = Recorder()
    free = address_of("free")
    if MARK:
        Mark(recorder)
    else:
        # `ret`: nothing is freed, so that every block is there at the end.
        gdb.selected_inferior().write_memory(free, b"\xc3")
        ranges = [range_of(name) for name in ALLOCATORS]
        for name in ALLOCATORS:
            Allocator(name, recorder, ranges)
    print("ready", flush=True)
    gdb.execute("continue")
    recorder.write(OUTPUT, free)


main()
