"""at_once.py: the API of tests/rig without machines behind it, whose instances are up at once and end at once.

An instance that ends lets go of its volumes and its address, as EC2's do, and an address that was given to a
network card is its instance's.
"""
import runpy
import sys

from ec2rig import api

hook = api.hook


def hook_and_run():
    hook()
    from moto.ec2.models import instances as model
    init, terminate = model.Instance.__init__, model.Instance.terminate

    def begin(self, *arguments, **options):
        init(self, *arguments, **options)
        self._state = model.InstanceState("running", 16)

    def end(self, *arguments):
        before = terminate(self, *arguments)
        for volume in list(self.ec2_backend.volumes.values()):
            if volume.attachment and volume.attachment.instance.id == self.id:
                volume.attachment, volume.status = None, "available"
        for address in self.ec2_backend.addresses:
            card = address.eni.id if address.eni else None
            if (address.instance and address.instance.id == self.id) or card in {one.id for one in self.nics.values()}:
                address.instance = address.eni = address.association_id = None
        return before

    from moto.ec2.models.elastic_ip_addresses import ElasticAddressBackend
    associate = ElasticAddressBackend.associate_address

    def given(self, *arguments, **options):
        address = associate(self, *arguments, **options)
        address.instance = address.instance or address.eni.instance
        return address

    model.Instance.__init__, model.Instance.terminate = begin, end
    ElasticAddressBackend.associate_address = given


api.hook = hook_and_run
sys.argv[1:] = ["api"]
runpy.run_module("ec2rig", run_name="__main__")
