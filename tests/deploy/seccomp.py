#!/usr/bin/env python3
"""Runs a program under a seccomp profile as container engines write them, by libseccomp.

usage: seccomp.py PROFILE [--without NAME,NAME] PROGRAM [ARGUMENT...]

As an engine does it: calls that this architecture or this libseccomp does not know are left out; no_new_privs is set.
Not here: capabilities, and profiles that depend on them (`includes`, `excludes`).
"""

import ctypes
import json
import os
import sys

ALLOW = 0x7FFF0000
MASKED_EQ, EQ, NE = 7, 4, 1
OPS = {"SCMP_CMP_MASKED_EQ": MASKED_EQ, "SCMP_CMP_EQ": EQ, "SCMP_CMP_NE": NE}


class Compare(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def action(rule):
    if rule["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    if rule["action"] == "SCMP_ACT_ERRNO":
        return 0x00050000 | rule.get("errnoRet", 1)
    sys.exit("seccomp.py: action %s" % rule["action"])


def main():
    profile, arguments, without = json.load(open(sys.argv[1])), sys.argv[2:], set()
    if arguments[0] == "--without":
        without, arguments = set(arguments[1].split(",")), arguments[2:]
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Compare),
    ]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    default = {"action": profile["defaultAction"], "errnoRet": profile.get("defaultErrnoRet", 1)}
    filters = lib.seccomp_init(action(default))
    if not filters:
        sys.exit("seccomp.py: seccomp_init failed")
    known = 0
    for rule in profile["syscalls"]:
        compares = [
            Compare(a["index"], OPS[a["op"]], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args") or []
        ]
        array = (Compare * max(len(compares), 1))(*compares)
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number < 0 or name in without:
                continue
            answer = lib.seccomp_rule_add_array(filters, action(rule), number, len(compares), array)
            if answer != 0:
                sys.exit("seccomp.py: %s: %s" % (name, os.strerror(-answer)))
            known += 1
    if known < 50:
        sys.exit("seccomp.py: only %d calls are known" % known)
    answer = lib.seccomp_load(filters)
    if answer != 0:
        sys.exit("seccomp.py: load: %s" % os.strerror(-answer))
    os.execvp(arguments[0], arguments)


main()
