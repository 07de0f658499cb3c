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

/// `VM_EXEC` in `vm_flags` (include/linux/mm.h).
pub const VM_EXEC: u64 = 4;

const _: () = assert!(size_of::<KernelOffsets>() == 60);
