using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Which running states are refused before the guest is touched, and their room.</summary>
public sealed class DomainStateAdmissionTests : IDisposable
{
    private static readonly Id16 Machine = Id16.Parse("0123456789abcdef0123456789abcdef");
    private readonly DirectoryInfo fleece = Directory.CreateTempSubdirectory("vbstate");

    public void Dispose() => fleece.Delete(recursive: true);

    [Fact]
    public void A_machine_that_libvirt_forgets_when_it_ends_is_refused()
    {
        var context = new LibvirtContext(new LibvirtOptions(["qemu:///session"], fleece.FullName) { FleeceFreeBytesMin = 0 }, TimeProvider.System, SystemEntropy.Instance, new ProcessRunner(TimeProvider.System));
        var admission = new DomainStateAdmission(context, new CaptureRequest(Machine, Machine, null, new HashSet<string>()) { WithState = StateCapture.Stopped });
        var fault = Assert.Throws<FaultException>(() => admission.Require(ViewOf(persistent: false)));
        Assert.Equal(FaultReason.Unsupported, fault.Reason);
        Assert.Contains("virsh define", fault.Message, StringComparison.Ordinal);
        using var room = admission.Require(ViewOf(persistent: true));
        Assert.NotNull(room);
    }

    [Fact]
    public void Machines_that_are_saved_at_once_do_not_count_the_same_room()
    {
        var rooms = new StateRoom();
        IDisposable? Take(out long free) => rooms.TryTake(60, 10, () => 100, out free);
        var first = Take(out var free);
        Assert.NotNull(first);
        Assert.Equal(100, free);
        Assert.Null(Take(out free));
        Assert.Equal(40, free);
        first.Dispose();
        first.Dispose();
        Assert.NotNull(Take(out free));
        Assert.Equal(100, free);
    }

    private static DomainView ViewOf(bool persistent)
    {
        var document = DomainDocument.Parse($"<domain><name>x</name><uuid>{Machine}</uuid><memory unit='KiB'>1024</memory></domain>");
        Assert.Equal(1 << 20, document.MemoryBytes);
        return new DomainView(document, "", Active: true, Running: true, persistent, HasSavedState: false, []);
    }
}
