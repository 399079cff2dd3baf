//! `cargo exercise N`: checks the reader's solution of one part.

use std::env;
use std::process::ExitCode;

use exercises::checks::{self, Verdict};
use exercises::{part_1, part_2, part_3, part_4, part_5, part_6, part_7};

fn verdict(part: &str) -> Option<Verdict> {
    Some(match part {
        "1" => checks::part_1(part_1::shadow_entry),
        "2" => checks::part_2(part_2::stack_pages),
        "3" => checks::part_3(part_3::slots_with_the_entry),
        "4" => checks::part_4(part_4::SecondChance::new),
        "5" => checks::part_5(part_5::STRATEGY),
        "6" => checks::part_6(part_6::reaches_the_window),
        "7" => checks::part_7(part_7::tear_down),
        _ => return None,
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [part] = &arguments[..] else {
        eprintln!("usage: cargo exercise N, where N is a part of docs/tour.md, 1 to 7");
        return ExitCode::from(2);
    };
    match verdict(part) {
        Some(Ok(())) => {
            println!("part {part}: solved");
            ExitCode::SUCCESS
        }
        Some(Err(why)) => {
            println!("part {part}: not solved. {why}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("there is no part `{part}`; the tour has parts 1 to 7");
            ExitCode::from(2)
        }
    }
}
