//! "Did you mean": the nearest of the names that would have been right. Not a search.

/// Longer words are not compared: the distance costs their product.
const WORD_CHARS_MAX: usize = 64;

/// The candidate with the smallest edit distance, if it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    let slip = (length / 3).clamp(1, 4);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 4 * WORD_CHARS_MAX)
        .map(|candidate| (distance(&fold(word), &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= slip)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `Round-Robin` and `round_robin` are the same word to whoever typed it.
fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment: insert, delete, replace, or swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, fold, nearest};

    #[test]
    fn counts_edits() {
        let count = |a: &str, b: &str| distance(&fold(a), &fold(b));
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("usres", "users"), 1);
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("Round-Robin", "round_robin"), 0);
    }

    #[test]
    fn names_only_what_is_near() {
        assert_eq!(nearest("usres", ["orders", "users"]), Some("users"));
        assert_eq!(nearest("payments", ["orders", "users"]), None);
        assert_eq!(nearest(&"x".repeat(1000), ["x"]), None);
    }
}
