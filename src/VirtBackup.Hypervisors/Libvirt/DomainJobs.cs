using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Jobs that libvirt runs on a machine: ours are ended, another tool's are reported.</summary>
internal sealed class DomainJobs(LibvirtConnection connection, LibvirtOptions options, TimeProvider time)
{
    private const int JobUnbounded = 2; // VIR_DOMAIN_JOB_BOUNDED is 1; larger numbers are ended jobs
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(50);

    /// <summary>Ends a capture of ours, if one runs, and waits until libvirt has removed it.</summary>
    /// <exception cref="FaultException">It does not end.</exception>
    public async Task EndOursAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        while (await connection.ChangeAsync(libvirt => AbortOurs(libvirt, machine), cancellationToken))
        {
            if (time.GetElapsedTime(started) > options.WorkTimeout)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable,
                    $"libvirt does not end the capture of the machine {machine.ToUuidString()}. See 'virsh domjobinfo', and end it with 'virsh domjobabort'.");
            }
            await Task.Delay(PollInterval, time, cancellationToken);
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: a job runs that is not ours.</exception>
    public Task RequireIdleAsync(Id16 machine, CancellationToken cancellationToken) => connection.QueryAsync(libvirt =>
    {
        using var domain = Domains.Find(libvirt, machine);
        // Asked first: libvirt would let a second job wait for half a minute.
        var socket = FindBackup(domain);
        LibvirtValues.Require(LibvirtCalls.GetJobInfo(domain, out var job));
        return socket is not null || job.Type is > 0 and <= JobUnbounded
            ? throw new FaultException(FaultReason.FailedPrecondition, socket is { Length: > 0 }
                ? $"Another tool is backing the machine {machine.ToUuidString()} up (its socket is {socket}). Wait for its end, or end it with 'virsh domjobabort'."
                : $"libvirt is busy with another job of the machine {machine.ToUuidString()} (a backup, migration or save). Wait for its end; 'virsh domjobinfo' tells more.")
            : true;
    }, cancellationToken);

    private bool AbortOurs(ConnectionHandle libvirt, Id16 machine)
    {
        using var domain = Domains.TryFind(libvirt, machine);
        if (domain is null || !Domains.IsActive(domain) || FindBackup(domain) is not { } socket || !IsOurs(socket, machine))
        {
            return false;
        }
        // A failure means that it is ending already, or that it cannot: the next look tells.
        _ = LibvirtCalls.AbortJob(domain);
        return true;
    }

    private bool IsOurs(string socket, Id16 machine) =>
        socket.StartsWith(Path.Combine(options.FleeceFolder, CaptureNames.FolderPattern(machine)[..^1]), StringComparison.Ordinal);

    /// <summary>The socket of the running backup; empty when it has none; null when none runs.</summary>
    private static string? FindBackup(DomainHandle domain)
    {
        var text = LibvirtCalls.GetBackupXml(domain, 0);
        if (text != 0)
        {
            return BackupDocument.ReadSocket(LibvirtValues.TakeText(text)) ?? "";
        }
        var failure = LibvirtFailure.Last();
        return failure.Code is LibvirtFailure.NoBackup or LibvirtFailure.OperationInvalid ? null : throw failure;
    }
}
