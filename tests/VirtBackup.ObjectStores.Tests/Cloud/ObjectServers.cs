using VirtBackup.ObjectStores.Tests.Cloud;
using VirtBackup.Testing.Lab;

[assembly: AssemblyFixture(typeof(ObjectServers))]

namespace VirtBackup.ObjectStores.Tests.Cloud;

/// <summary>The servers of all tests here, each started once, when it is first needed.</summary>
public sealed class ObjectServers : IAsyncDisposable
{
    private readonly Lazy<Task<LabObjectServer>> _ceph = new(() => LabObjectServer.StartCephAsync());
    private readonly Lazy<Task<LabObjectServer>> _azurite = new(() => LabObjectServer.StartAzuriteAsync());

    public async Task<LabObjectServer> GetAsync(bool s3)
    {
        var server = await (s3 ? _ceph : _azurite).Value;
        server.UseCredentials();
        return server;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var server in new[] { _ceph, _azurite })
        {
            if (server.IsValueCreated && server.Value.IsCompletedSuccessfully)
            {
                await server.Value.Result.DisposeAsync();
            }
        }
    }
}
