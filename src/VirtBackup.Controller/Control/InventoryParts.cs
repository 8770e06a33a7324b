using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Control;

/// <summary>Puts an inventory together that came in parts. Not safe for concurrent use: one for each connection.</summary>
internal sealed class InventoryParts
{
    private const int MachinesMax = 1024;
    private Inventory? _begun;

    /// <returns>The inventory, once its last part is there.</returns>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: it has too many machines.</exception>
    public Inventory? Add(Inventory part)
    {
        if ((_begun?.VirtualMachines.Count ?? 0) + part.VirtualMachines.Count > MachinesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"An inventory names at most {MachinesMax} virtual machines.");
        }
        if (_begun is null)
        {
            _begun = part;
        }
        else
        {
            _begun.VirtualMachines.AddRange(part.VirtualMachines);
        }
        if (part.More)
        {
            return null;
        }
        var whole = _begun;
        _begun = null;
        return whole;
    }
}
