#!/bin/sh
# What `cargo xtask ebpf` has cargo call instead of rustc. The names of functions in the object hold a hash of the
# crate's metadata, and for a crate outside the workspace, such as memprof-common, cargo takes that from the absolute
# path. Here it is the same in every folder.
rustc=$1
shift
case " $* " in
*" --crate-name memprof_"*)
    for argument in "$@"; do
        shift
        case $argument in
        metadata=*) argument=metadata=memprof ;;
        esac
        set -- "$@" "$argument"
    done
    ;;
esac
exec "$rustc" "$@"
