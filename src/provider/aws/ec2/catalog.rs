//! What a launch refers to and EC2 has: images, subnets, launch templates, machine types. Found once, used for minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_ec2::types::{
    ArchitectureType, ArchitectureValues, DeviceType, Image, InstanceTypeInfo, LaunchTemplateVersion, Subnet,
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    model::{
        offering::Architecture,
        resource::{Completeness, Ec2Launch, ImageRef},
    },
    provider::{ProviderError, aws::clock::Clock},
};

use super::{
    Ec2,
    api::{Failed, PAGE, filter, pages},
};

/// How long what was found is used again: longer than a burst of creates takes, shorter than anybody waits for a new image.
const AGE: Duration = Duration::from_secs(180);

/// Answers that are used again while they are young. Asking holds the lock, so that a burst asks once.
#[derive(Debug)]
pub(super) struct Cache<K, V>(Mutex<BTreeMap<K, (Instant, V)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V: Clone> Cache<K, V> {
    pub(super) async fn get<F>(&self, key: K, ask: impl FnOnce() -> F) -> Result<V, ProviderError>
    where
        F: Future<Output = Result<V, ProviderError>>,
    {
        let mut known = self.0.lock().await;
        known.retain(|_, (found, _)| found.elapsed() < AGE);
        if let Some((_, value)) = known.get(&key) {
            return Ok(value.clone());
        }
        let value = ask().await?;
        known.insert(key, (Instant::now(), value.clone()));
        Ok(value)
    }
}

/// What is kept between creates.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    images: Cache<(ImageRef, Option<String>, Architecture), Ami>,
    templates: Cache<(String, Option<String>), Template>,
    subnets: Cache<Vec<String>, Vec<Place>>,
    architectures: Cache<String, Architecture>,
}

/// An image as a launch needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ami {
    pub(super) id: String,
    /// Its root volume; none where that is no volume of EBS.
    pub(super) root: Option<Root>,
}

/// An image's root volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// `/dev/xvda`
    pub(super) device: String,
    /// Its size; none where the image does not say.
    pub(super) gib: Option<i32>,
}

/// What a launch template says that a request replaces as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) image: Option<String>,
    pub(super) subnet: Option<String>,
    pub(super) security_groups: Vec<String>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) zone: String,
}

impl Ec2 {
    /// The image that a machine of this type boots.
    pub(super) async fn ami(
        &self,
        image: &ImageRef,
        template: Option<&Template>,
        machine_type: &str,
    ) -> Result<Ami, ProviderError> {
        let architecture = self.architecture(machine_type).await?;
        self.ami_for(image, template, architecture).await
    }

    pub(super) async fn ami_for(
        &self,
        image: &ImageRef,
        template: Option<&Template>,
        architecture: Architecture,
    ) -> Result<Ami, ProviderError> {
        let of_template = template.and_then(|template| template.image.clone());
        let key = (image.clone(), of_template.clone(), architecture);
        let find = || self.find_ami(image, of_template.as_deref(), architecture);
        self.catalog.images.get(key, find).await
    }

    async fn find_ami(
        &self,
        image: &ImageRef,
        of_template: Option<&str>,
        architecture: Architecture,
    ) -> Result<Ami, ProviderError> {
        let images = match image {
            ImageRef::Name(id) => self.image_of(id).await?,
            ImageRef::Parameter(name) => {
                let id = self.parameter(name).await?;
                self.image_of(&id).await?
            }
            ImageRef::LaunchTemplate => match of_template {
                Some(id) => self.image_of(id).await?,
                None => Vec::new(),
            },
            ImageRef::Owned { owner, name } => self.images_owned(owner, name, architecture).await?,
            // What only others have; the stack file is checked for it.
            ImageRef::Id(_) | ImageRef::NewestOf(_) | ImageRef::TaskTemplate => Vec::new(),
        };
        newest(&images, architecture).ok_or_else(|| ProviderError::Rejected {
            code: "image_not_found".to_owned(),
            why: format!("no available image {image} for {}", word(architecture)),
        })
    }

    async fn image_of(&self, id: &str) -> Result<Vec<Image>, ProviderError> {
        let call = self.api.ec2.describe_images().image_ids(id).send();
        match self.api.read(call).await {
            Ok(answer) => Ok(answer.images.unwrap_or_default()),
            Err(failed) if is_no_image(&failed) => Ok(Vec::new()),
            Err(failed) => Err(failed.error),
        }
    }

    async fn images_owned(
        &self,
        owner: &str,
        name: &str,
        architecture: Architecture,
    ) -> Result<Vec<Image>, ProviderError> {
        let filters = vec![
            filter("name", [name]),
            filter("state", ["available"]),
            filter("architecture", [values(architecture).as_str()]),
        ];
        let ask = |token: Option<String>| {
            let call = self.api.ec2.describe_images().owners(owner);
            let call = call.set_filters(Some(filters.clone())).max_results(1000);
            async {
                let answer = self.api.read(call.set_next_token(token).send()).await?;
                let rows = answer.images.unwrap_or_default().into_iter();
                let rows = rows.filter_map(|image| Some((image.image_id()?.to_owned(), image)));
                Ok::<_, Failed>((rows.collect(), answer.next_token))
            }
        };
        whole(pages(ask).await)
    }

    async fn parameter(&self, name: &str) -> Result<String, ProviderError> {
        let call = self.api.ssm.get_parameter().name(name).send();
        let answer = match self.api.read(call).await {
            Ok(answer) => answer,
            Err(failed) if failed.is("ParameterNotFound") => {
                return Err(ProviderError::Rejected {
                    code: "parameter_not_found".to_owned(),
                    why: format!("Systems Manager has no parameter {name}"),
                });
            }
            Err(failed) => return Err(failed.error),
        };
        let value = answer.parameter.and_then(|parameter| parameter.value);
        value
            .filter(|value| value.starts_with("ami-"))
            .ok_or_else(|| ProviderError::Rejected {
                code: "image_not_found".to_owned(),
                why: format!("the parameter {name} holds no AMI's id"),
            })
    }

    /// What runs on a machine type.
    pub(super) async fn architecture(&self, machine_type: &str) -> Result<Architecture, ProviderError> {
        let find = || async {
            let types = self
                .types(&BTreeSet::from([machine_type.to_owned()]), &Clock::default())
                .await?;
            types
                .first()
                .and_then(architecture)
                .ok_or_else(|| ProviderError::Rejected {
                    code: "machine_type_not_found".to_owned(),
                    why: format!("there is no machine type {machine_type:?} that runs x86_64 or arm64"),
                })
        };
        self.catalog
            .architectures
            .get(machine_type.to_owned(), find)
            .await
    }

    /// Those of these types that the region has.
    pub(super) async fn types(
        &self,
        names: &BTreeSet<String>,
        clock: &Clock,
    ) -> Result<Vec<InstanceTypeInfo>, ProviderError> {
        let ask = |token: Option<String>| {
            // By a filter: a name that does not exist would be an error for all of them.
            let call = self.api.ec2.describe_instance_types();
            let call = call.filters(filter("instance-type", names)).max_results(PAGE);
            let call = call.set_next_token(token).customize().interceptor(clock.clone());
            async {
                let answer = self.api.read(call.send()).await?;
                let rows = answer.instance_types.unwrap_or_default().into_iter();
                let rows = rows.filter_map(|info| Some((info.instance_type()?.as_str().to_owned(), info)));
                Ok::<_, Failed>((rows.collect(), answer.next_token))
            }
        };
        whole(pages(ask).await)
    }

    /// A launch template, where the launch names one.
    pub(super) async fn template(&self, launch: &Ec2Launch) -> Result<Option<Template>, ProviderError> {
        let Some(name) = &launch.launch_template else {
            return Ok(None);
        };
        let key = (name.clone(), launch.template_version.clone());
        let find = || self.find_template(name, launch.template_version.as_deref());
        self.catalog.templates.get(key, find).await.map(Some)
    }

    async fn find_template(&self, name: &str, version: Option<&str>) -> Result<Template, ProviderError> {
        let call = self.api.ec2.describe_launch_template_versions();
        let call = if is_template_id(name) {
            call.launch_template_id(name)
        } else {
            call.launch_template_name(name)
        };
        // An image by a parameter is resolved by EC2 then.
        let call = call.versions(version.unwrap_or("$Default")).resolve_alias(true);
        let answer = self.api.read(call.send()).await?;
        answer
            .launch_template_versions()
            .first()
            .map(read_template)
            .ok_or_else(|| ProviderError::Rejected {
                code: "template_not_found".to_owned(),
                why: format!(
                    "the launch template {name} has no version {}",
                    version.unwrap_or("$Default")
                ),
            })
    }

    /// The subnet for a zone: of those that the launch names, or of the template's, or of the VPC's, or the zone's default one.
    ///
    /// # Errors
    /// [`ProviderError::NoCapacity`] where none is in that zone: another zone may have one.
    pub(super) async fn subnet(
        &self,
        launch: &Ec2Launch,
        template: Option<&Template>,
        zone: &str,
    ) -> Result<String, ProviderError> {
        let mut named = launch.subnets.clone();
        if named.is_empty() {
            named.extend(template.and_then(|template| template.subnet.clone()));
        }
        let places = self.places(&named).await?;
        choose(&places, zone).ok_or_else(|| ProviderError::NoCapacity {
            why: match named.as_slice() {
                [] => format!("no subnet to launch in is in {zone}"),
                named => format!("none of {} is in {zone}", named.join(", ")),
            },
        })
    }

    /// The named subnets, in their order; without names, those of the provider's VPC, or each zone's default one.
    pub(super) async fn places(&self, named: &[String]) -> Result<Vec<Place>, ProviderError> {
        self.places_heard(named, &Clock::default()).await
    }

    pub(super) async fn places_heard(
        &self,
        named: &[String],
        clock: &Clock,
    ) -> Result<Vec<Place>, ProviderError> {
        let find = || self.find_places(named, clock);
        self.catalog.subnets.get(named.to_vec(), find).await
    }

    async fn find_places(&self, named: &[String], clock: &Clock) -> Result<Vec<Place>, ProviderError> {
        let only = match (named, &self.vpc) {
            ([], Some(vpc)) => filter("vpc-id", [vpc]),
            ([], None) => filter("default-for-az", ["true"]),
            (named, _) => filter("subnet-id", named),
        };
        let ask = |token: Option<String>| {
            let call = self.api.ec2.describe_subnets().filters(only.clone());
            let call = call.max_results(PAGE).set_next_token(token);
            let call = call.customize().interceptor(clock.clone());
            async {
                let answer = self.api.read(call.send()).await?;
                let rows = answer
                    .subnets
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|row: Subnet| {
                        let id = row.subnet_id?;
                        let zone = row.availability_zone?;
                        Some((id.clone(), Place { id, zone }))
                    });
                Ok::<_, Failed>((rows.collect(), answer.next_token))
            }
        };
        let mut places = whole(pages(ask).await)?;
        // Else by their ids: the same request each time, which the client token wants.
        places.sort_by_key(|place| named.iter().position(|name| *name == place.id));
        Ok(places)
    }
}

fn choose(places: &[Place], zone: &str) -> Option<String> {
    places
        .iter()
        .find(|place| place.zone == zone)
        .map(|place| place.id.clone())
}

/// A listing that is of use only as a whole.
pub(super) fn whole<T>(listed: Result<super::api::Pages<T>, Failed>) -> Result<Vec<T>, ProviderError> {
    let pages = listed?;
    match pages.completeness {
        Completeness::Complete => Ok(pages.rows),
        Completeness::Partial { why } => Err(ProviderError::Unavailable { why }),
    }
}

/// The newest of the images that can be used.
fn newest(images: &[Image], architecture: Architecture) -> Option<Ami> {
    let fits = images.iter().filter(|image| {
        image.architecture() == Some(&values(architecture))
            && image.state().is_none_or(|state| state.as_str() == "available")
    });
    // Dates are written alike, so that their order is that of their text.
    let best = fits.max_by_key(|image| (image.creation_date(), image.image_id()))?;
    Some(Ami {
        id: best.image_id()?.to_owned(),
        root: match best.root_device_type() {
            Some(DeviceType::InstanceStore) => None,
            _ => root(best),
        },
    })
}

fn root(image: &Image) -> Option<Root> {
    let device = image.root_device_name()?;
    let mut volumes = image.block_device_mappings().iter();
    let volume = volumes.find(|mapping| mapping.device_name() == Some(device));
    Some(Root {
        device: device.to_owned(),
        gib: volume.and_then(|volume| volume.ebs()?.volume_size()),
    })
}

fn is_no_image(failed: &Failed) -> bool {
    failed.is_one_of(&[
        "InvalidAMIID.NotFound",
        "InvalidAMIID.Malformed",
        "InvalidAMIID.Unavailable",
    ])
}

/// A template by its id; else by its name.
pub(super) fn is_template_id(text: &str) -> bool {
    text.starts_with("lt-")
}

fn read_template(version: &LaunchTemplateVersion) -> Template {
    let Some(data) = version.launch_template_data() else {
        return Template::default();
    };
    let interface = data
        .network_interfaces()
        .iter()
        .find(|interface| interface.device_index().unwrap_or(0) == 0);
    let of_interface = interface.map(|interface| interface.groups().to_vec());
    Template {
        image: data.image_id().map(str::to_owned),
        subnet: interface
            .and_then(|interface| interface.subnet_id())
            .map(str::to_owned),
        security_groups: of_interface
            .filter(|groups| !groups.is_empty())
            .unwrap_or_else(|| data.security_group_ids().to_vec()),
    }
}

/// The instruction set of a type; none where no runner runs on it.
pub(super) fn architecture(info: &InstanceTypeInfo) -> Option<Architecture> {
    let supported = info.processor_info()?.supported_architectures();
    if supported.contains(&ArchitectureType::Arm64) {
        Some(Architecture::Arm)
    } else if supported.contains(&ArchitectureType::X8664) {
        Some(Architecture::X86)
    } else {
        None
    }
}

fn values(architecture: Architecture) -> ArchitectureValues {
    match architecture {
        Architecture::X86 => ArchitectureValues::X8664,
        Architecture::Arm => ArchitectureValues::Arm64,
    }
}

/// EC2's word for an instruction set.
pub(super) fn word(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86 => "x86_64",
        Architecture::Arm => "arm64",
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{
        BlockDeviceMapping, EbsBlockDevice, ImageState, LaunchTemplateInstanceNetworkInterfaceSpecification,
        ResponseLaunchTemplateData,
    };

    use super::*;

    fn image(id: &str, created: &str, architecture: ArchitectureValues) -> Image {
        Image::builder()
            .image_id(id)
            .creation_date(created)
            .architecture(architecture)
            .state(ImageState::Available)
            .root_device_name("/dev/xvda")
            .root_device_type(DeviceType::Ebs)
            .block_device_mappings(
                BlockDeviceMapping::builder()
                    .device_name("/dev/xvda")
                    .ebs(EbsBlockDevice::builder().volume_size(8).build())
                    .build(),
            )
            .build()
    }

    #[test]
    fn the_newest_image_of_the_types_architecture_is_taken() {
        let mut images = vec![
            image("ami-1", "2026-01-02T00:00:00.000Z", ArchitectureValues::X8664),
            image("ami-2", "2026-03-01T00:00:00.000Z", ArchitectureValues::X8664),
            image("ami-3", "2026-04-01T00:00:00.000Z", ArchitectureValues::Arm64),
        ];
        let pending = Image::builder().image_id("ami-4").state(ImageState::Pending);
        let pending = pending.architecture(ArchitectureValues::X8664);
        images.push(pending.creation_date("2026-05-01T00:00:00.000Z").build());
        let root = newest(&images, Architecture::X86).and_then(|ami| ami.root);
        let expected = Root {
            device: "/dev/xvda".to_owned(),
            gib: Some(8),
        };
        assert_eq!(root, Some(expected));
        let found = |architecture| newest(&images, architecture).map(|ami| ami.id);
        assert_eq!(found(Architecture::X86).as_deref(), Some("ami-2"));
        assert_eq!(found(Architecture::Arm).as_deref(), Some("ami-3"));
        assert_eq!(newest(&images[..2], Architecture::Arm), None);
    }

    #[test]
    fn a_root_that_is_no_volume_has_no_device_to_encrypt() {
        let local = Image::builder().image_id("ami-1").root_device_name("/dev/sda1");
        let local = local.architecture(ArchitectureValues::X8664);
        let local = local.root_device_type(DeviceType::InstanceStore).build();
        assert_eq!(newest(&[local], Architecture::X86).unwrap().root, None);
    }

    #[test]
    fn the_first_named_subnet_of_the_zone_is_taken() {
        let place = |id: &str, zone: &str| Place {
            id: id.to_owned(),
            zone: zone.to_owned(),
        };
        let places = [
            place("subnet-2", "b"),
            place("subnet-1", "a"),
            place("subnet-3", "a"),
        ];
        assert_eq!(choose(&places, "a").as_deref(), Some("subnet-1"));
        assert_eq!(choose(&places, "c"), None);
    }

    #[test]
    fn a_template_says_where_and_behind_what_in_two_ways() {
        let version = |data: ResponseLaunchTemplateData| {
            LaunchTemplateVersion::builder()
                .launch_template_data(data)
                .build()
        };
        let interface = LaunchTemplateInstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id("subnet-1")
            .groups("sg-1")
            .build();
        let data = ResponseLaunchTemplateData::builder()
            .image_id("ami-1")
            .network_interfaces(interface);
        let expected = Template {
            image: Some("ami-1".to_owned()),
            subnet: Some("subnet-1".to_owned()),
            security_groups: vec!["sg-1".to_owned()],
        };
        assert_eq!(read_template(&version(data.build())), expected);
        let data = ResponseLaunchTemplateData::builder().security_group_ids("sg-2");
        assert_eq!(read_template(&version(data.build())).security_groups, ["sg-2"]);
    }
}
