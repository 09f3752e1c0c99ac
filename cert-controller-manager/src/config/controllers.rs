//! The controllers of source objects. The flags, the settings and the help follow from this list.

/// A controller of source objects. Its name is a value of `--controllers` and the prefix of its flags.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SourceController {
    /// Ingresses.
    Ingress,
    /// Services.
    Service,
    /// Gateways of Istio.
    Istio,
    /// Gateways of the Gateway API.
    Gateway,
}

impl SourceController {
    /// All controllers.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Service, Self::Istio, Self::Gateway];
    /// The names, in the order of [`Self::ALL`].
    pub const NAMES: [&str; Self::ALL.len()] =
        ["ingress-cert", "service-cert", "istio-gateways-dns", "k8s-gateways-dns"];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The controller of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.name() == name)
    }
}

/// The help of `--controllers`.
pub const HELP: &str = "Controllers to run: issuer, ingress-cert, service-cert, \
     istio-gateways-dns, k8s-gateways-dns, the groups certcontrollers and certsources, or all";

const SOURCES: usize = SourceController::ALL.len();

/// All names of controllers: of certificates, of source objects, and one that upstream has.
pub const NAMES: [&str; SOURCES + 2] = {
    let mut names = ["issuer"; SOURCES + 2];
    let mut index = 0;
    while index < SOURCES {
        names[index + 1] = SourceController::NAMES[index];
        index += 1;
    }
    names[SOURCES + 1] = "watch-gateways-crds";
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_help_list_every_controller() {
        for (index, controller) in SourceController::ALL.into_iter().enumerate() {
            assert_eq!(index, controller as usize);
            assert_eq!(SourceController::find(controller.name()), Some(controller));
        }
        assert!(HELP.contains(&format!("issuer, {}, the", SourceController::NAMES.join(", "))));
    }
}
