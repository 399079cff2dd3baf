//! Everything that is to be run: strategies × workloads × runs, in the order A B A B …, so that what changes
//! slowly meets all strategies alike.

/// One run of one workload with one strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The workload.
    pub workload: String,
    /// The strategy, as the module is given it.
    pub strategy: String,
    /// Which run, from 0.
    pub run: u32,
    /// The seed of everything random in it.
    pub seed: u32,
}

/// All cells in the order in which they are run.
pub fn cells(strategies: &[String], workloads: &[String], runs: u32, seed: u32) -> Vec<Cell> {
    let mut cells = Vec::new();
    for run in 0..runs {
        for workload in workloads {
            for strategy in strategies {
                cells.push(Cell {
                    workload: workload.clone(),
                    strategy: strategy.clone(),
                    run,
                    seed: seed.wrapping_add(run),
                });
            }
        }
    }
    cells
}

/// Takes a list such as `lguest,lru:slots=4,shared:shared-kernel=on,precise=off` apart: what has an equals sign but no
/// name before it belongs to the strategy before.
pub fn strategies(list: &str) -> Vec<String> {
    let mut strategies: Vec<String> = Vec::new();
    for piece in list.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let parameter = piece.contains('=') && !piece.contains(':');
        match strategies.last_mut().filter(|_| parameter) {
            Some(last) => {
                last.push(if last.contains(':') { ',' } else { ':' });
                last.push_str(piece);
            }
            None => strategies.push(piece.to_owned()),
        }
    }
    strategies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_take_turns() {
        let names = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let cells = cells(&names(&["a", "b"]), &names(&["x", "y"]), 2, 7);
        let order: Vec<_> = cells.iter().map(|c| (c.run, c.workload.as_str(), c.strategy.as_str())).collect();
        assert_eq!(order[..5], [(0, "x", "a"), (0, "x", "b"), (0, "y", "a"), (0, "y", "b"), (1, "x", "a")]);
        assert_eq!(order.len(), 8);
        assert_eq!((cells[0].seed, cells[7].seed), (7, 8));
    }

    #[test]
    fn commas_separate_strategies_and_their_parameters() {
        assert_eq!(
            strategies("lguest,lru:slots=4,lru:slots=16,shared"),
            ["lguest", "lru:slots=4", "lru:slots=16", "shared"]
        );
        assert_eq!(
            strategies("shared:shared-kernel=on,precise=off, lru"),
            ["shared:shared-kernel=on,precise=off", "lru"]
        );
        assert_eq!(strategies("2q,"), ["2q"]);
    }
}
