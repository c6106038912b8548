"""What an account says of itself and moto does not know: defaults that launches may override."""


def hook():
    from moto.core.responses import ActionResult
    from moto.ec2.responses.general import General

    def metadata_defaults(self):
        return ActionResult({"AccountLevel": {"HttpTokens": "optional", "HttpEndpoint": "enabled"}})

    def default_key(self):
        return ActionResult({"KmsKeyId": "alias/aws/ebs"})

    General.get_instance_metadata_defaults = metadata_defaults
    General.get_ebs_default_kms_key_id = default_key
