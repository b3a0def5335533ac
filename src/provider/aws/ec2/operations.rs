//! What of Amazon this provider calls, for the policy in `packaging/iam/ec2.json`: a test compares the two both ways, and the
//! tests with an emulator hold each call against the list.

/// Every call, by the service that it is a right of.
pub const OPERATIONS: [(&str, &str); 24] = [
    ("ec2", "AuthorizeSecurityGroupEgress"),
    ("ec2", "AuthorizeSecurityGroupIngress"),
    ("ec2", "CreateSecurityGroup"),
    ("ec2", "CreateTags"),
    ("ec2", "DeleteKeyPair"),
    ("ec2", "DeleteSecurityGroup"),
    ("ec2", "DescribeAvailabilityZones"),
    ("ec2", "DescribeImages"),
    ("ec2", "DescribeInstanceTypeOfferings"),
    ("ec2", "DescribeInstanceTypes"),
    ("ec2", "DescribeInstances"),
    ("ec2", "DescribeKeyPairs"),
    ("ec2", "DescribeLaunchTemplateVersions"),
    ("ec2", "DescribeSecurityGroups"),
    ("ec2", "DescribeSpotPriceHistory"),
    ("ec2", "DescribeSubnets"),
    ("ec2", "GetConsoleOutput"),
    ("ec2", "ImportKeyPair"),
    ("ec2", "RevokeSecurityGroupEgress"),
    ("ec2", "RevokeSecurityGroupIngress"),
    ("ec2", "RunInstances"),
    ("ec2", "TerminateInstances"),
    ("pricing", "GetProducts"),
    ("ssm", "GetParameter"),
];

/// Rights that no call of ours names and that a launch takes: to hand the instance its profile.
pub const PASSED: [&str; 1] = ["iam:PassRole"];
