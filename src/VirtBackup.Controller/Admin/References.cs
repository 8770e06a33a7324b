using VirtBackup.Catalog;
using VirtBackup.Core;

namespace VirtBackup.Controller.Admin;

/// <summary>Finds what operators mean: names, ids, unambiguous starts of ids, <c>VM@latest</c>, <c>VM@7</c>.</summary>
public sealed class References(CatalogDatabase catalog)
{
    /// <summary>Digits that the start of an id needs.</summary>
    public const int PrefixMin = 6;

    private const int CharsMax = 512;

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>, or <see cref="FaultReason.InvalidArgument"/> when it is ambiguous.</exception>
    public async ValueTask<MachineRow> FindMachineAsync(string reference, CancellationToken cancellationToken) =>
        await TryFindMachineAsync(reference, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no virtual machine '{reference}'.");

    /// <exception cref="FaultException">As <see cref="FindMachineAsync"/>; <see cref="FaultReason.FailedPrecondition"/>: no agent reports it.</exception>
    public async ValueTask<MachineRow> FindPresentMachineAsync(string reference, CancellationToken cancellationToken)
    {
        var machine = await FindMachineAsync(reference, cancellationToken);
        if (machine.Peer.Length > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The virtual machine '{machine.Name}' is not here: its recovery points came from the peer '{machine.Peer}'.");
        }
        return machine.Present ? machine
            : throw new FaultException(FaultReason.FailedPrecondition, $"No agent reports the virtual machine '{machine.Name}' any more: check its host's agent.");
    }

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.FailedPrecondition"/>: it is revoked.</exception>
    public async ValueTask RequireAgentAsync(string name, CancellationToken cancellationToken)
    {
        var agent = await catalog.Agents.FindAsync(name, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no agent called '{name}'.");
        if (agent.RevokedMs is not null)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The agent '{name}' is revoked: choose another one.");
        }
    }

    /// <summary>The id of a machine that is known, or of which points exist though no agent reports it.</summary>
    public async ValueTask<Id16> FindMachineIdAsync(string reference, CancellationToken cancellationToken)
    {
        if (await TryFindMachineAsync(reference, cancellationToken) is { } machine)
        {
            return machine.VmId;
        }
        var ids = await catalog.Points.FindMachinesAsync(reference, 2, cancellationToken);
        if (ids.Count > 1)
        {
            throw Ambiguous("virtual machine", reference, ids);
        }
        if (ids.Count == 1)
        {
            return ids[0];
        }
        return Id16.TryParse(reference, out var id) && (await catalog.Points.ListAsync(id, true, null, 1, cancellationToken)).Count > 0
            ? id
            : throw new FaultException(FaultReason.NotFound, $"There is no virtual machine '{reference}'.");
    }

    /// <summary>What people call the machine: also one that no agent reports any more; at worst its id.</summary>
    public async ValueTask<string> NameMachineAsync(Id16 vmId, CancellationToken cancellationToken) =>
        (await catalog.Machines.FindAsync(vmId, cancellationToken))?.Name
        ?? (await catalog.Points.ListAsync(vmId, true, null, 1, cancellationToken)).FirstOrDefault()?.VmName
        ?? vmId.ToString();

    /// <inheritdoc cref="FindMachineAsync"/>
    public async ValueTask<PointRow> FindPointAsync(string reference, CancellationToken cancellationToken)
    {
        RequireText(reference, "recovery point");
        if (reference.LastIndexOf('@') is > 0 and var at)
        {
            return await FindOfMachineAsync(reference[..at], reference[(at + 1)..], cancellationToken);
        }
        var rows = ToRange(reference) is { } range ? await catalog.Points.FindByRangeAsync(range.First, range.Last, 2, cancellationToken) : [];
        return rows.Count switch
        {
            0 => throw new FaultException(FaultReason.NotFound, $"There is no recovery point '{reference}': give its id, at least {PrefixMin} digits of it, or VM@latest."),
            1 => (await catalog.Points.FindAsync(rows[0].PointId, cancellationToken))!,
            _ => throw Ambiguous("recovery point", reference, rows.Select(static row => row.PointId)),
        };
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the point was made at another site, whose keys are not here.</exception>
    public static void RequireUnsealed(PointRow point)
    {
        ArgumentNullException.ThrowIfNull(point);
        if (point.Sealed)
        {
            throw new FaultException(
                FaultReason.FailedPrecondition,
                $"The recovery point {point.PointId} of '{point.VmName}' is sealed: it was made in repository {point.Origin}, whose keys are not here. Unlock it with the recovery kit of that site (virtbackup peer unlock).");
        }
    }

    /// <inheritdoc cref="FindMachineAsync"/>
    public async ValueTask<JobRow> FindJobAsync(string reference, CancellationToken cancellationToken)
    {
        RequireText(reference, "job");
        var rows = ToRange(reference) is { } range ? await catalog.Jobs.FindByRangeAsync(range.First, range.Last, 2, cancellationToken) : [];
        return rows.Count switch
        {
            0 => throw new FaultException(FaultReason.NotFound, $"There is no job '{reference}'."),
            1 => rows[0],
            _ => throw Ambiguous("job", reference, rows.Select(static row => row.JobId)),
        };
    }

    private async ValueTask<MachineRow?> TryFindMachineAsync(string reference, CancellationToken cancellationToken)
    {
        RequireText(reference, "virtual machine");
        var rows = await catalog.Machines.FindByNameAsync(reference, 2, cancellationToken);
        // A machine that is gone does not make the name of one that is there ambiguous.
        if (rows is [{ Present: true }, { Present: false }])
        {
            rows.RemoveAt(1);
        }
        if (rows.Count == 0 && Id16.TryParse(reference, out var id))
        {
            rows = await catalog.Machines.FindByRangeAsync(id, id, 1, cancellationToken);
        }
        if (rows.Count == 0 && ToRange(reference) is { } range)
        {
            rows = await catalog.Machines.FindByRangeAsync(range.First, range.Last, 2, cancellationToken);
        }
        return rows.Count switch
        {
            0 => null,
            1 => await catalog.Machines.FindAsync(rows[0].VmId, cancellationToken),
            _ => throw Ambiguous("virtual machine", reference, rows.Select(static row => row.VmId)),
        };
    }

    private async ValueTask<PointRow> FindOfMachineAsync(string machine, string which, CancellationToken cancellationToken)
    {
        var vm = await FindMachineIdAsync(machine, cancellationToken);
        long? sequence = null;
        if (which != "latest")
        {
            sequence = long.TryParse(which, System.Globalization.NumberStyles.None, null, out var number)
                ? number
                : throw new FaultException(FaultReason.InvalidArgument, $"'@{which}' means no recovery point: write VM@latest, or VM@ and its number.");
        }
        var row = await catalog.Points.FindNewestAsync(vm, sequence, cancellationToken)
            ?? throw new FaultException(FaultReason.NotFound, $"The virtual machine '{machine}' has no {(sequence is null ? "recovery point" : $"recovery point number {sequence}")}.");
        return (await catalog.Points.FindAsync(row.PointId, cancellationToken))!;
    }

    private static (Id16 First, Id16 Last)? ToRange(string reference) => reference.Length < PrefixMin ? null : WireText.ToRange(reference);

    private static void RequireText(string reference, string what)
    {
        if (reference.Length is 0 or > CharsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"Say which {what} is meant.");
        }
    }

    private static FaultException Ambiguous(string what, string reference, IEnumerable<Id16> ids) =>
        new(FaultReason.InvalidArgument, $"'{reference}' means more than one {what}: {string.Join(", ", ids)}, ...: give the whole id.");
}
