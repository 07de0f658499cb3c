//! Structures of the running kernel that the programs look into. Where their fields lie differs between kernels; userspace
//! finds it in the kernel's type information (BTF).

/// Offsets of fields, in bytes: the programs' constant `KERNEL_OFFSETS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelOffsets {
    /// 1 if those of return probes are known, from `task_utask` to `instance_next`.
    pub has_return_instances: u32,
    /// `task_struct.utask`
    pub task_utask: u32,
    /// `uprobe_task.return_instances`
    pub utask_return_instances: u32,
    /// `return_instance.stack`
    pub instance_stack: u32,
    /// `return_instance.orig_ret_vaddr`
    pub instance_address: u32,
    /// `return_instance.next`
    pub instance_next: u32,
    /// 1 if those of stores to maple trees are known, which follow.
    pub has_stores: u32,
    /// `ma_state.index`
    pub store_index: u32,
    /// `ma_state.last`
    pub store_last: u32,
    /// `vm_area_struct.vm_file`
    pub area_file: u32,
    /// `vm_area_struct.vm_flags`
    pub area_flags: u32,
    /// 1 if those of tasks are known, which follow.
    pub has_tasks: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
}

/// Offsets by which the area of mapped memory is found that an address lies in: the programs' constant `AREA_OFFSETS`. Areas are in
/// a maple tree (include/linux/maple_tree.h) since Linux 6.1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AreaOffsets {
    /// 1 if all are known.
    pub are_known: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `mm_struct.mm_mt`
    pub mm_tree: u32,
    /// `maple_tree.ma_root`
    pub tree_root: u32,
    /// `maple_range_64.pivot`
    pub range_pivots: u32,
    /// `maple_range_64.slot`
    pub range_slots: u32,
    /// `maple_arange_64.pivot`
    pub arange_pivots: u32,
    /// `maple_arange_64.slot`
    pub arange_slots: u32,
    /// `vm_area_struct.vm_ops`
    pub area_operations: u32,
    /// `vm_area_struct.vm_flags`
    pub area_flags: u32,
    /// `vm_fault.flags`
    pub fault_flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// `VM_WRITE` in `vm_flags` (include/linux/mm.h), as those that follow.
pub const VM_WRITE: u64 = 2;

/// `VM_SHARED`
pub const VM_SHARED: u64 = 8;

/// `VM_HUGETLB`: memory of the pool of huge pages, which is in no process's RSS.
pub const VM_HUGETLB: u64 = 0x40_0000;

/// `VM_EXEC` in `vm_flags` (include/linux/mm.h).
pub const VM_EXEC: u64 = 4;

const _: () = assert!(size_of::<KernelOffsets>() == 60);
const _: () = assert!(size_of::<AreaOffsets>() == 48);
