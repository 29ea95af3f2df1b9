//! User identity (PS3.7 D.3.3.7, PS3.15 B.4): who uses the modality, as far as it says so.
//!
//! Nothing here is verified: the standard leaves that open, and a gateway in a cupboard has nobody to ask. What is a
//! secret is not even kept: of a passcode, a ticket, an assertion or a token nothing outlives the reading of the item.

use std::fmt;
use std::str::FromStr;

/// The longest name that is kept, in characters.
const LONGEST_NAME: usize = 64;

/// In which form a user is identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityForm {
    /// 1: a name.
    Username,
    /// 2: a name and a passcode.
    UsernamePasscode,
    /// 3: a Kerberos service ticket.
    Kerberos,
    /// 4: a SAML assertion.
    Saml,
    /// 5: a JSON web token.
    Jwt,
    /// A form that the standard does not have, or an item that cannot be read.
    Other,
}

impl IdentityForm {
    /// The forms that the standard has, in its order.
    pub const ALL: [Self; 5] = [Self::Username, Self::UsernamePasscode, Self::Kerberos, Self::Saml, Self::Jwt];

    fn from_wire(code: u8) -> Self {
        match code {
            1 => Self::Username,
            2 => Self::UsernamePasscode,
            3 => Self::Kerberos,
            4 => Self::Saml,
            5 => Self::Jwt,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for IdentityForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Username => "username",
            Self::UsernamePasscode => "username-passcode",
            Self::Kerberos => "kerberos",
            Self::Saml => "saml",
            Self::Jwt => "jwt",
            Self::Other => "a form that does not exist",
        })
    }
}

/// A text that names no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no form of user identity")]
pub struct NoSuchForm(String);

impl FromStr for IdentityForm {
    type Err = NoSuchForm;

    fn from_str(text: &str) -> Result<Self, NoSuchForm> {
        let named = |form: &&Self| form.to_string() == text;
        Self::ALL.iter().find(named).copied().ok_or_else(|| NoSuchForm(text.chars().take(LONGEST_NAME).collect()))
    }
}

/// The user identity of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// In which form.
    pub form: IdentityForm,
    /// Whether the requestor wants an answer.
    pub response_requested: bool,
    /// The name, where the form has one: printable, at most 64 characters.
    pub user: Option<String>,
}

impl UserIdentity {
    /// Reads the value of a user identity sub-item (58H). An item that cannot be read is one of an unknown form, so that
    /// it is refused where forms are told apart.
    pub(super) fn read(value: &[u8]) -> Self {
        let unreadable = Self { form: IdentityForm::Other, response_requested: false, user: None };
        let Some(([code, response, l0, l1], rest)) = value.split_first_chunk() else { return unreadable };
        let Some(primary) = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1]))) else { return unreadable };
        let form = IdentityForm::from_wire(*code);
        let named = matches!(form, IdentityForm::Username | IdentityForm::UsernamePasscode);
        Self { form, response_requested: *response == 1, user: named.then(|| printable(primary)) }
    }
}

fn printable(name: &[u8]) -> String {
    let safe = |letter: char| if letter.is_control() { '?' } else { letter };
    String::from_utf8_lossy(name).chars().take(LONGEST_NAME).map(safe).collect()
}

/// The type of the sub-item that answers a user identity, and its value: a server response of no bytes (PS3.7
/// D.3.3.7.2). A ticket or an assertion of our own, which two of the forms could have, does not exist.
pub(super) const RESPONSE: (u8, [u8; 2]) = (0x59, [0, 0]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_named_in_the_configuration_as_they_are_shown() {
        for form in IdentityForm::ALL {
            assert_eq!(form.to_string().parse(), Ok(form));
        }
        for bad in ["", "password", "a form that does not exist"] {
            assert!(bad.parse::<IdentityForm>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_a_secret_nothing_is_kept() {
        let item = |code: u8, primary: &[u8]| {
            let length = u8::try_from(primary.len()).unwrap();
            UserIdentity::read(&[&[code, 1, 0, length][..], primary, &[0, 6], b"secret"].concat())
        };
        let identity = item(2, b"J\x1b[1m\xff");
        assert_eq!(identity.user.as_deref(), Some("J?[1m\u{fffd}"));
        assert!(identity.response_requested && identity.form == IdentityForm::UsernamePasscode);
        assert!(!format!("{identity:?}").contains("secret"));
        for code in 3..=5 {
            assert_eq!(item(code, b"ticket").user, None, "{code}");
        }
        assert_eq!(item(1, &[b'x'; 200]).user.unwrap().len(), LONGEST_NAME);
    }

    #[test]
    fn what_cannot_be_read_is_of_no_known_form() {
        for value in [&[][..], &[2], &[1, 1, 0], &[1, 1, 0, 9, b'x'], &[0, 1, 0, 0], &[6, 1, 0, 0]] {
            assert_eq!(UserIdentity::read(value).form, IdentityForm::Other, "{value:?}");
        }
    }
}
