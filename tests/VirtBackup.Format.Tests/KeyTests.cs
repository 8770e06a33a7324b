using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Format.Tests;

public sealed class KeyTests
{
    [Fact]
    public void Bytes_are_golden()
    {
        Assert.Equal(Golden.KeyObject, Samples.Hex(Samples.KeyObject().ToBytes()));
        Assert.Equal(KeyObject.Size, Samples.KeyObject().ToBytes().Length);
    }

    [Fact]
    public void Key_object_reads_back()
    {
        var key = KeyObject.Parse(Samples.KeyObject().ToBytes());
        Assert.Equal((Samples.Name(1), Samples.Name(2), Samples.Name(0xe1), Samples.Name(0x0d)), (key.Repository, key.Vm, key.Epoch, key.Recipient));
        Assert.Equal(Samples.KeyObject().ToBytes(), key.ToBytes());
    }

    [Fact]
    public void Damaged_key_objects_are_refused()
    {
        Mutation.Sample(Samples.KeyObject().ToBytes(), ChecksumRepair.OfObject, bytes => KeyObject.Parse(bytes).ToBytes());
        Mutation.Sample(Samples.KeyObject().ToBytes(), Mutation.Keep, bytes => KeyObject.Parse(bytes).ToBytes());
    }

    [Theory]
    [InlineData(0, FaultReason.Malformed)]
    [InlineData(8, FaultReason.Unsupported)]
    [InlineData(9, FaultReason.Unsupported)]
    [InlineData(10, FaultReason.Malformed)]
    [InlineData(76, FaultReason.Malformed)]
    public void Each_rule_is_enforced(int at, FaultReason reason)
    {
        var bytes = Samples.KeyObject().ToBytes();
        bytes[at] ^= 0x40;
        Assert.Equal(FaultReason.Corrupt, Assert.Throws<FaultException>(() => KeyObject.Parse(bytes)).Reason);
        Assert.Equal(reason, Assert.Throws<FaultException>(() => KeyObject.Parse(ChecksumRepair.OfObject(bytes))).Reason);
    }

    [Fact]
    public void Wrapped_key_reads_back_and_damage_is_refused()
    {
        var wrapped = new WrappedKey(Samples.Name(9), Samples.Filled(0x42, 166));
        Assert.Equal(Golden.WrappedKeyHead, Samples.Hex(wrapped.ToBytes().AsSpan(0, WrappedKey.HeadSize)));
        Assert.Equal(wrapped.ToBytes(), WrappedKey.Parse(wrapped.ToBytes()).ToBytes());
        Mutation.Sample(wrapped.ToBytes(), ChecksumRepair.OfObject, bytes => WrappedKey.Parse(bytes).ToBytes());
        Mutation.Sample(wrapped.ToBytes(), Mutation.Keep, bytes => WrappedKey.Parse(bytes).ToBytes());
    }
}
