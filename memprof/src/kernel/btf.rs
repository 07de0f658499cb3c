//! Where fields lie in the running kernel's structures, from its own type information: BTF, as Documentation/bpf/btf.rst of
//! the kernel has it. Only that; for what else is in it, aya reads it.

use memprof_common::kernel_structs::{AreaOffsets, KernelOffsets};

/// Where the kernel shows its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;

/// `struct btf_type`: name, info, and a size or a type.
const TYPE_BYTES: usize = 12;

/// `struct btf_member`: name, type, and an offset in bits.
const MEMBER_BYTES: usize = 12;

/// `BTF_KIND_*` (include/uapi/linux/btf.h).
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// Structures in structures without a name are no deeper than this.
const MOST_NESTED: u32 = 8;

/// What the programs want to know; zero, and not to be used, where it cannot be found.
pub(super) fn kernel_offsets() -> KernelOffsets {
    let bytes = std::fs::read(VMLINUX).unwrap_or_default();
    Btf::parse(&bytes).map(|btf| offsets_in(&btf)).unwrap_or_default()
}

/// The same of what is mapped.
pub(super) fn area_offsets() -> AreaOffsets {
    let bytes = std::fs::read(VMLINUX).unwrap_or_default();
    Btf::parse(&bytes).map(|btf| area_offsets_in(&btf)).unwrap_or_default()
}

fn area_offsets_in(btf: &Btf<'_>) -> AreaOffsets {
    let mut offsets = AreaOffsets::default();
    let fields = [
        ("task_struct", "mm", &mut offsets.task_mm),
        ("mm_struct", "mm_mt", &mut offsets.mm_tree),
        ("maple_tree", "ma_root", &mut offsets.tree_root),
        ("maple_range_64", "pivot", &mut offsets.range_pivots),
        ("maple_range_64", "slot", &mut offsets.range_slots),
        ("maple_arange_64", "pivot", &mut offsets.arange_pivots),
        ("maple_arange_64", "slot", &mut offsets.arange_slots),
        ("vm_area_struct", "vm_ops", &mut offsets.area_operations),
        ("vm_area_struct", "vm_flags", &mut offsets.area_flags),
        ("vm_fault", "flags", &mut offsets.fault_flags),
    ];
    offsets.are_known = u32::from(btf.find_all(fields));
    offsets
}

fn offsets_in(btf: &Btf<'_>) -> KernelOffsets {
    let mut offsets = KernelOffsets::default();
    let of_return_probes = [
        ("task_struct", "utask", &mut offsets.task_utask),
        ("uprobe_task", "return_instances", &mut offsets.utask_return_instances),
        ("return_instance", "stack", &mut offsets.instance_stack),
        ("return_instance", "orig_ret_vaddr", &mut offsets.instance_address),
        ("return_instance", "next", &mut offsets.instance_next),
    ];
    offsets.has_return_instances = u32::from(btf.find_all(of_return_probes));
    let of_stores = [
        ("ma_state", "index", &mut offsets.store_index),
        ("ma_state", "last", &mut offsets.store_last),
        ("vm_area_struct", "vm_file", &mut offsets.area_file),
        ("vm_area_struct", "vm_flags", &mut offsets.area_flags),
    ];
    offsets.has_stores = u32::from(btf.find_all(of_stores));
    let of_tasks = [
        ("task_struct", "pid", &mut offsets.task_pid),
        ("task_struct", "tgid", &mut offsets.task_tgid),
        ("task_struct", "mm", &mut offsets.task_mm),
    ];
    offsets.has_tasks = u32::from(btf.find_all(of_tasks));
    offsets
}

/// The types of one BTF blob, in this machine's byte order.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; numbers begin with 1.
    places: Vec<usize>,
}

/// The head of a type.
#[derive(Clone, Copy)]
struct Type {
    place: usize,
    name: u32,
    kind: u32,
    /// Number of members or the like.
    count: usize,
    /// Whether members' offsets have a bit field's width above them.
    has_bit_fields: bool,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let section = |place| {
            let start = word(bytes, 4)?.checked_add(word(bytes, place)?)? as usize;
            bytes.get(start..start.checked_add(word(bytes, place + 4)? as usize)?)
        };
        let mut btf = Self { types: section(8)?, strings: section(16)?, places: Vec::new() };
        let mut place = 0;
        while place < btf.types.len() {
            btf.places.push(place);
            place += TYPE_BYTES + btf.type_at(place)?.bytes_behind()?;
        }
        Some(btf)
    }

    /// Finds each field, and says whether all are there.
    fn find_all<const COUNT: usize>(&self, fields: [(&str, &str, &mut u32); COUNT]) -> bool {
        fields.into_iter().all(|(structure, field, offset)| {
            self.offset_of(structure, field).inspect(|found| *offset = *found).is_some()
        })
    }

    /// Bytes from a structure's beginning to a field of it, also of a structure or union without a name in it.
    fn offset_of(&self, structure: &str, field: &str) -> Option<u32> {
        let types = self.places.iter().filter_map(|place| self.type_at(*place));
        let mut named = types.filter(|found| found.kind == STRUCT && self.is_named(found.name, structure));
        let bits = named.find_map(|found| self.bits_to(found, field, MOST_NESTED))?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    fn bits_to(&self, structure: Type, field: &str, most_nested: u32) -> Option<u32> {
        (0..structure.count).find_map(|index| {
            let place = structure.place + TYPE_BYTES + index * MEMBER_BYTES;
            let (name, of_type) = (word(self.types, place)?, word(self.types, place + 4)?);
            let offset = word(self.types, place + 8)?;
            let offset = if structure.has_bit_fields { offset & 0xff_ffff } else { offset };
            if self.is_named(name, field) {
                return Some(offset);
            }
            let nested = self.type_of_number(of_type).filter(|nested| matches!(nested.kind, STRUCT | UNION))?;
            let may_go_on = self.is_named(name, "") && most_nested > 0;
            may_go_on.then(|| self.bits_to(nested, field, most_nested - 1)).flatten().map(|inner| offset + inner)
        })
    }

    fn type_of_number(&self, number: u32) -> Option<Type> {
        let index = (number as usize).checked_sub(1)?;
        self.type_at(*self.places.get(index)?)
    }

    fn type_at(&self, place: usize) -> Option<Type> {
        let (name, info) = (word(self.types, place)?, word(self.types, place + 4)?);
        Some(Type {
            place,
            name,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            has_bit_fields: info >> 31 != 0,
        })
    }

    fn is_named(&self, name: u32, expected: &str) -> bool {
        let rest = self.strings.get(name as usize..).and_then(|rest| rest.strip_prefix(expected.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }
}

impl Type {
    /// Bytes that follow its head, by its kind; `None` for one that this does not know.
    fn bytes_behind(self) -> Option<usize> {
        Some(match self.kind {
            // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
            2 | 7..=12 | 16 | 18 => 0,
            // INT, VAR, DECL_TAG
            1 | 14 | 17 => 4,
            // ARRAY
            3 => 12,
            // ENUM, FUNC_PROTO
            6 | 13 => self.count * 8,
            // STRUCT, UNION, DATASEC, ENUM64
            STRUCT | UNION | 15 | 19 => self.count * MEMBER_BYTES,
            _ => return None,
        })
    }
}

fn word(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(place..place.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::*;

    /// A blob with a structure `outer { int first; struct { int inner; }; bits bit field }`.
    fn blob(extra_kind: u32) -> Vec<u8> {
        let strings = b"\0outer\0first\0inner\0last\0";
        let types: [&[u32]; 4] = [
            &[0, 1 << 24, 4, 32],
            &[0, STRUCT << 24 | 1, 4, 13, 1, 0],
            &[1, 1 << 31 | STRUCT << 24 | 3, 12, 7, 1, 0, 0, 2, 32, 19, 1, 5 << 24 | 64],
            &[0, extra_kind << 24, 0],
        ];
        let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_ne_bytes).collect();
        let lengths = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        let header =
            MAGIC.to_ne_bytes().into_iter().chain([1, 0]).chain(lengths.into_iter().flat_map(u32::to_ne_bytes));
        header.chain(types).chain(*strings).collect()
    }

    #[test]
    fn fields_are_found_in_nameless_structures_and_beside_bit_fields() {
        let bytes = blob(2);
        let btf = Btf::parse(&bytes).unwrap();
        let offset = |field| btf.offset_of("outer", field);
        assert_eq!([offset("first"), offset("inner"), offset("last")], [Some(0), Some(4), Some(8)]);
        assert_eq!([offset("firs"), offset("inner1"), btf.offset_of("oute", "first")], [None; 3]);
    }

    #[test]
    fn what_is_not_understood_gives_nothing() {
        assert!(Btf::parse(&blob(31)).is_none());
        let bytes = blob(2);
        (0..bytes.len()).for_each(|length| {
            let _ = Btf::parse(&bytes[..length]).map(|btf| offsets_in(&btf));
        });
        assert_eq!(Btf::parse(&bytes).map(|btf| offsets_in(&btf)), Some(KernelOffsets::default()));
    }

    #[test]
    fn the_running_kernels_offsets_are_those_that_its_own_structures_can_have() {
        let offsets = kernel_offsets();
        if std::fs::exists(VMLINUX).unwrap() {
            assert_eq!((offsets.has_return_instances, offsets.has_tasks), (1, 1));
            let has_maple_trees = procfs::KernelVersion::current().unwrap() >= procfs::KernelVersion::new(6, 1, 0);
            assert_eq!(offsets.has_stores, u32::from(has_maple_trees));
            assert_eq!(area_offsets().are_known, u32::from(has_maple_trees));
        }
    }
}
