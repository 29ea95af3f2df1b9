//! How many instances the requests that are being read, or the reports that are not answered yet, may name together: over
//! all associations, so that memory does not grow with their number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many references may be held at once: those of ten of the largest data sets. One takes 200 bytes in memory.
pub const MOST_AT_ONCE: usize = 200_000;

/// What is left of it.
#[derive(Debug)]
pub struct Budget {
    left: Mutex<usize>,
}

/// A part of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    references: usize,
}

impl Budget {
    /// A budget of so many references.
    #[must_use]
    pub fn new(references: usize) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(references) })
    }

    fn left(&self) -> MutexGuard<'_, usize> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A share for nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), references: 0 }
    }
}

impl Share {
    /// Makes the share one for so many references, if there are as many. A smaller one always can be had.
    pub fn cover(&mut self, references: usize) -> bool {
        let mut left = self.budget.left();
        match (*left + self.references).checked_sub(references) {
            Some(rest) => {
                *left = rest;
                drop(left);
                self.references = references;
                true
            }
            None => false,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.left() += self.references;
    }
}
