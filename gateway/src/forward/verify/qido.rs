//! QIDO-RS (PS3.18 10.6): does the archive behind STOW-RS have these instances?
//!
//! The questions go over a connection of their own, which is closed after each round: what is renewed meanwhile, the
//! certificate or a token, counts with the next. How they are asked is in `stow::search`, what the answers mean in `look`.

use super::batch::by_series;
use super::look::{Above, Answer, Look, Queried};
use super::{Desk, Trouble};
use crate::forward::stow::{Found, MOST_SEARCHED, Search, Silence};
use crate::inquiry::Doubts;
use crate::model::Uid;
use crate::spool::Unverified;

/// See the module.
pub(super) struct Qido {
    search: Search,
    look: Look,
}

impl Qido {
    pub(super) fn new(search: Search, doubts: Doubts) -> Self {
        Self { search, look: Look::new(doubts) }
    }

    /// Asks for these.
    pub(super) async fn ask(&mut self, claims: Vec<Unverified>, desk: &Desk) -> Result<(), Trouble> {
        let asked = self.ask_all(claims, desk).await;
        self.search.close();
        asked
    }

    async fn ask_all(&mut self, claims: Vec<Unverified>, desk: &Desk) -> Result<(), Trouble> {
        for group in by_series(claims, self.look.at_once(MOST_SEARCHED)) {
            self.look.at(&mut self.search, group, desk).await?;
        }
        Ok(())
    }
}

impl Queried for Search {
    async fn query(&mut self, above: Above<'_>, instances: &[&Uid]) -> Result<Answer, Trouble> {
        match self.instances(above, instances).await {
            Ok(Found::These { found, whole }) => Ok(Answer::Found { found, whole }),
            Ok(Found::Refused(why)) => Ok(Answer::Refused(why)),
            Err(Silence::Trouble { sentence, wait: Some(wait) }) => Err(Trouble::PutOff(sentence, wait)),
            Err(Silence::Trouble { sentence, wait: None }) => Err(Trouble::Failed(sentence)),
            Err(Silence::Unanswered(sentence)) => Err(Trouble::Question { sentence, remark: None }),
            Err(Silence::NotOffered(sentence)) => Err(Trouble::NotOffered(sentence)),
        }
    }
}
