//! Finding what a kernel complained about: the host VM's in its log, a Linux guest's in what it shows.

/// Openings of the messages by which Linux 6.1 reports that something is wrong with itself.
const COMPLAINTS: [&str; 20] = [
    "WARNING: ",
    "BUG: ",
    "kernel BUG at",
    "Oops: ",
    "Kernel panic - ",
    "general protection fault",
    "double fault",
    "invalid opcode",
    "divide error",
    "stack segment",
    "unable to handle",
    "Bad page ",
    "bad: scheduling from",
    "rcu: INFO: rcu_",
    "INFO: task ",
    "refcount_t: ",
    "watchdog: ",
    "unregister_netdevice: waiting",
    "list_add corruption",
    "list_del corruption",
];

/// Lines that are a complaint, without their time stamps.
pub fn complaints(log: &str) -> Vec<String> {
    log.lines().map(message).filter(|line| is_complaint(line)).map(str::to_owned).collect()
}

/// How many lines of a log are shown with its first complaint: the registers and the functions that led there.
const SHOWN_LINES: usize = 30;

/// A log from its first complaint on, some lines long.
pub fn from_first_complaint(log: &str) -> Vec<String> {
    let lines = log.lines().map(|line| line.trim_end_matches('\r'));
    lines.skip_while(|line| !is_complaint(message(line))).take(SHOWN_LINES).map(str::to_owned).collect()
}

/// As [`complaints`], from the console of a guest, which its programs share: a message of the kernel is what has a
/// time stamp.
pub fn complaints_of_guest(console: &[String]) -> Vec<String> {
    let messages = console.iter().map(|line| message(line)).zip(console);
    messages
        .filter(|(message, line)| message.len() < line.trim_end().len() && is_complaint(message))
        .map(|(message, _)| message.to_owned())
        .collect()
}

fn is_complaint(message: &str) -> bool {
    // The kernel reports a program's fault, and our module a guest's, in the words it has for its own.
    let of_others = message.starts_with("traps: ") || message.starts_with("lg: ");
    // What Debian has left out of it for a newer processor (arch/x86/kernel/cpu/bugs.c).
    let of_its_build = message.contains("WARNING: kernel not compiled with ");
    !of_others && !of_its_build && COMPLAINTS.iter().any(|complaint| message.contains(complaint))
}

/// Cuts off a time stamp such as `[    4.567890] `.
fn message(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((stamp, message)) if stamp.trim_start().bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            message
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_complaints() {
        let log = "[    3.456789] lg: loading out-of-tree module taints kernel.\r\n\
            [    5.000001] WARNING: CPU: 0 PID: 77 at mm/page_alloc.c:5525 __alloc_pages+0x1\r\n\
            [    5.000002] BUG: unable to handle page fault for address: f7c00000\r\n\
            [    5.000003] lg: guest killed: bad page table\r\n\
            Kernel panic - not syncing: Fatal exception\r\n";
        assert_eq!(
            complaints(log),
            [
                "WARNING: CPU: 0 PID: 77 at mm/page_alloc.c:5525 __alloc_pages+0x1",
                "BUG: unable to handle page fault for address: f7c00000",
                "Kernel panic - not syncing: Fatal exception",
            ]
        );
    }

    #[test]
    fn what_follows_the_first_complaint_is_shown() {
        let log = "[    1.0] lg: loaded\r\n[    2.0] BUG: a\r\n[    2.1] Call Trace:\r\n[    2.2]  f+0x1\r\n";
        assert_eq!(
            from_first_complaint(log),
            ["[    2.0] BUG: a", "[    2.1] Call Trace:", "[    2.2]  f+0x1"]
        );
        assert_eq!(from_first_complaint("[    1.0] lg: loaded\n"), [""; 0]);
    }

    #[test]
    fn of_a_guests_console_only_what_its_kernel_says_counts() {
        let console = [
            "WARNING: says a program\r",
            "[    1.5] WARNING: CPU: 0 PID: 1 at mm/x.c:1\r",
            "[guest] BUG: no stamp",
        ];
        let found = complaints_of_guest(&console.map(str::to_owned));
        assert_eq!(found, ["WARNING: CPU: 0 PID: 1 at mm/x.c:1"]);
    }

    #[test]
    fn what_a_kernel_was_built_without_is_no_complaint() {
        let log =
            "[    0.04] Speculative Return Stack Overflow: WARNING: kernel not compiled with CPU_SRSO.\n";
        assert_eq!(complaints(log), [""; 0]);
    }

    #[test]
    fn faults_of_programs_and_guests_are_no_complaints_of_the_kernel() {
        let log = "[    5.0] traps: lguest[80] general protection fault ip:1 sp:2 error:0\n\
            [    6.0] lguest[81]: segfault at 0 ip 0 sp 0 error 4\n\
            [    7.0] lg: guest killed: divide error at 0xc0001000\n";
        assert_eq!(complaints(log), [""; 0]);
    }
}
