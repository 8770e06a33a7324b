using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Lets a QEMU guest go on through its monitor and its guest agent, both of which serve one client at a time.</summary>
public sealed class QemuGuestRelease(TimeProvider time, IEntropy entropy) : IGuestRelease
{
    private const string DriverKind = "qemu";
    private const string Monitor = "qmp";
    private const string Agent = "guest-agent";

    // Short: whoever held a socket before is dead, or will be; and the next try comes soon.
    private static readonly TimeSpan GreetingTimeout = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan AgentTimeout = TimeSpan.FromSeconds(5);

    private readonly QemuDriverContext context = new(
        new QemuOptions(Path.DirectorySeparatorChar.ToString()) { GreetingTimeout = GreetingTimeout, CommandTimeout = TimeSpan.FromSeconds(10) }, time, entropy, new ProcessRunner(time));

    public string Kind => DriverKind;

    public bool NeedsHolderGone => true;

    internal static FreezeTarget TargetOf(QemuMachine machine, string folder)
    {
        var addresses = new Dictionary<string, string>(StringComparer.Ordinal) { [Monitor] = machine.QmpSocket };
        if (machine.GuestAgentSocket is { } agent)
        {
            addresses[Agent] = agent;
        }
        return new FreezeTarget(DriverKind, machine.Uuid, machine.Name, folder, addresses);
    }

    public async ValueTask<ReleaseOutcome> TryReleaseAsync(FreezeTarget target, Action<string> log, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(log);
        var marks = new FreezeMarks(target.Folder);
        if (!marks.Any)
        {
            return ReleaseOutcome.Released;
        }
        var machine = new QemuMachine(target.Machine, target.Name, target.Addresses[Monitor], target.Addresses.GetValueOrDefault(Agent));
        try
        {
            // A process that has ended holds no guest; its marks are of no use to anybody.
            if (!await Moving.QemuMonitors.IsListeningAsync(machine, cancellationToken))
            {
                log("Its QEMU has ended.");
                RemoveAll(marks);
                return ReleaseOutcome.Released;
            }
            if (marks.Has(FreezeMarks.Stopped))
            {
                await using var qmp = await context.OpenAsync(machine, cancellationToken);
                await HeldGuest.ContinueAsync(qmp, target.Folder, time, cancellationToken);
            }
            await HeldGuest.ThawAsync(machine.GuestAgentSocket, marks, time, entropy, AgentTimeout, log, cancellationToken);
            return ReleaseOutcome.Released;
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            log(failure.Message);
            return ReleaseOutcome.Again;
        }
    }

    private static void RemoveAll(FreezeMarks marks)
    {
        marks.Remove(FreezeMarks.Stopped);
        marks.Remove(FreezeMarks.Frozen);
        marks.Remove(FreezeMarks.Hooked);
    }
}
