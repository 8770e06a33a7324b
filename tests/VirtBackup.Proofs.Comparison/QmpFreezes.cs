using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Comparison;

/// <summary>For how long a guest of a QEMU without libvirt is frozen by each of some backups.</summary>
internal static class QmpFreezes
{
    private const string Machine = "plain";
    private const int Backups = 11;

    public static async Task<IReadOnlyList<TimeSpan>> MeasureAsync(CancellationToken cancellationToken)
    {
        using var folder = new LabDirectory();
        var log = folder.File("agent.log");
        await using var transcript = await AgentTranscript.OpenAsync(log);
        await using var vm = await LabVm.BootAsync(new LabVmOptions { Name = Machine, GuestAgentLog = log }, cancellationToken);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add(vm));
        await using var _ = installation;
        await installation.WaitForMachineAsync(Machine);
        var freezes = new List<TimeSpan>();
        for (var i = 0; i < Backups; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            (await vm.ExecAsync("dd if=/dev/urandom of=/data/x bs=64k count=8 conv=fsync 2>/dev/null", cancellationToken: cancellationToken)).EnsureSuccess();
            transcript.TakeFreezes();
            await installation.BackUpAsync(Machine);
            freezes.Add(transcript.TakeFreezes() is [var one] ? one : throw new RefutedException("a backup over QMP did not freeze and thaw its guest once"));
        }
        return freezes;
    }
}
