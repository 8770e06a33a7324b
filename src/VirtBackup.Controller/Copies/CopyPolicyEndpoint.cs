using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Copies;
using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Copies;

/// <summary>What operators' tools ask of policies for copies. Safe for concurrent use.</summary>
public sealed class CopyPolicyEndpoint(CatalogDatabase catalog, References references, CopyService service, CopyOutlook outlook, TimeProvider time)
{
    private const uint PlacesMax = 16;
    private const uint MediaMax = 3;
    private const uint LockDaysMax = 3650;
    private const uint WithinMinutesMax = 525_600;
    private const uint WithinMinutesDefault = 1440;
    private const int MachinesMax = 1000;
    private const int MachinesListed = 10_000;

    public async ValueTask<SetCopyPolicyResponse> SetCopyPolicyAsync(SetCopyPolicyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var policy = Validate(request.Policy ?? throw new FaultException(FaultReason.InvalidArgument, "Say what the policy is."));
        await ResolveMachinesAsync(policy, cancellationToken);
        foreach (var place in policy.At.Append(policy.LockedAt).Where(static place => place.Length > 0))
        {
            if (!(await catalog.Copies.ListStoresAsync(cancellationToken)).Exists(store => store.Name == place) && await catalog.Peers.FindAsync(place, cancellationToken) is null)
            {
                throw new FaultException(FaultReason.NotFound, $"There is neither a copy store nor a peer called '{place}'.");
            }
        }
        if (policy.LockedAt.Length > 0 && policy.At.Count > 0 && !policy.At.Contains(policy.LockedAt))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"Points are to be locked at '{policy.LockedAt}', so they must be there: name it with --at, too.");
        }
        if (policy.RuleSet.Length > 0 && await catalog.RuleSets.FindAsync(policy.RuleSet, cancellationToken) is null)
        {
            throw new FaultException(FaultReason.NotFound, $"There is no rule set '{policy.RuleSet}'.");
        }
        await catalog.Copies.SetPolicyAsync(new CopyPolicyRow(policy.Name, policy.ToByteArray(), time.NowMs()), cancellationToken);
        service.Wake();
        return new SetCopyPolicyResponse { Policy = policy };
    }

    public async ValueTask<ListCopyPoliciesResponse> ListCopyPoliciesAsync(CancellationToken cancellationToken)
    {
        var response = new ListCopyPoliciesResponse();
        response.Policies.Add((await catalog.Copies.ListPoliciesAsync(cancellationToken)).Select(static row => CopyPolicy.Parser.ParseFrom(row.Policy)));
        return response;
    }

    public async ValueTask<RemoveCopyPolicyResponse> RemoveCopyPolicyAsync(RemoveCopyPolicyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await catalog.Copies.RemovePolicyAsync(request.Name, cancellationToken)
            ? new RemoveCopyPolicyResponse()
            : throw Unknown(request.Name);
    }

    public async ValueTask<GetCopyStatusResponse> GetCopyStatusAsync(GetCopyStatusRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var policies = (await catalog.Copies.ListPoliciesAsync(cancellationToken)).ConvertAll(static row => new StoredPolicy(row));
        if (request.Policy.Length > 0)
        {
            policies.RemoveAll(policy => policy.Policy.Name != request.Policy);
            if (policies.Count == 0)
            {
                throw Unknown(request.Policy);
            }
        }
        Id16? only = request.Vm.Length > 0 ? await references.FindMachineIdAsync(request.Vm, cancellationToken) : null;
        var machines = await outlook.ListAsync(policies, only, cancellationToken);
        var response = new GetCopyStatusResponse { MachinesTotal = (uint)machines.Count };
        response.Machines.Add(machines.Take(MachinesListed));
        return response;
    }

    private static FaultException Unknown(string name) => new(FaultReason.NotFound, $"There is no copy policy called '{name}'.");

    /// <summary>The policy with its defaults written out.</summary>
    private static CopyPolicy Validate(CopyPolicy policy)
    {
        CopyNames.Validate(policy.Name, "copy policy");
        if (policy.AllVms == policy.Vms.Count > 0 || policy.Vms.Count > MachinesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A policy is about all machines, or about 1 to {MachinesMax} that it names.");
        }
        if (policy.Copies > PlacesMax || policy.OffSite > PlacesMax || policy.At.Count > PlacesMax || policy.Media > MediaMax || policy.LockDays > LockDaysMax || policy.WithinMinutes > WithinMinutesMax)
        {
            throw new FaultException(
                FaultReason.InvalidArgument,
                $"A policy wants at most {PlacesMax} copies at {PlacesMax} named places, on at most {MediaMax} kinds of storage, locks for at most {LockDaysMax} days, and has at most {WithinMinutesMax} minutes.");
        }
        if (policy.LockDays == 0 && policy.LockedAt.Length > 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "Say for how many days points are to be locked there.");
        }
        var whole = policy.Clone();
        whole.Copies = Math.Max(1, policy.Copies);
        whole.WithinMinutes = policy.WithinMinutes == 0 ? WithinMinutesDefault : policy.WithinMinutes;
        whole.At.Clear();
        whole.At.Add(policy.At.Distinct());
        return whole;
    }

    private async ValueTask ResolveMachinesAsync(CopyPolicy policy, CancellationToken cancellationToken)
    {
        var machines = new Dictionary<Id16, string>();
        foreach (var machine in policy.Vms)
        {
            var id = await references.FindMachineIdAsync(machine.VmName, cancellationToken);
            machines[id] = await references.NameMachineAsync(id, cancellationToken);
        }
        policy.Vms.Clear();
        policy.Vms.Add(machines.Select(static machine => new CopyMachine { VmId = machine.Key.ToString(), VmName = machine.Value }));
    }
}
