using VirtBackup.Catalog;
using VirtBackup.Catalog.Copies;
using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Copies;

/// <summary>What operators' tools ask of copy stores. Safe for concurrent use.</summary>
public sealed class CopyStoreEndpoint(CatalogDatabase catalog, CopyService service, CopyOutlook outlook, TimeProvider time)
{
    private const int LocationCharsMax = 1024;

    public async ValueTask<AddCopyStoreResponse> AddCopyStoreAsync(AddCopyStoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        CopyNames.Validate(request.Name, "copy store");
        if (request.Name == CopyNames.Repository)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"'{CopyNames.Repository}' means the repository itself: choose another name.");
        }
        if (await catalog.Peers.FindAsync(request.Name, cancellationToken) is not null)
        {
            throw new FaultException(FaultReason.AlreadyExists, $"There is a peer called '{request.Name}', and policies name both: choose another name.");
        }
        var location = ParseLocation(request.Location);
        var row = new CopyStoreRow(
            request.Name, location.Text, request.OffSite, (long)Math.Min(request.BytesPerSecondMax, long.MaxValue), time.NowMs());
        await service.AddAsync(row, cancellationToken);
        return new AddCopyStoreResponse { Store = await outlook.DescribeAsync(row, cancellationToken) };
    }

    public async ValueTask<ListCopyStoresResponse> ListCopyStoresAsync(CancellationToken cancellationToken)
    {
        var response = new ListCopyStoresResponse();
        foreach (var row in await catalog.Copies.ListStoresAsync(cancellationToken))
        {
            response.Stores.Add(await outlook.DescribeAsync(row, cancellationToken));
        }
        return response;
    }

    public async ValueTask<GetCopyStoreResponse> GetCopyStoreAsync(GetCopyStoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new GetCopyStoreResponse { Store = await outlook.DescribeAsync(await catalog.Copies.RequireStoreAsync(request.Name, cancellationToken), cancellationToken) };
    }

    public async ValueTask<RemoveCopyStoreResponse> RemoveCopyStoreAsync(RemoveCopyStoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        foreach (var policy in (await catalog.Copies.ListPoliciesAsync(cancellationToken)).ConvertAll(static row => new StoredPolicy(row).Policy))
        {
            if (policy.At.Contains(request.Name) || policy.LockedAt == request.Name)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The policy '{policy.Name}' names the copy store '{request.Name}': change the policy first (virtbackup copies set).");
            }
        }
        await service.RemoveAsync(request.Name, cancellationToken);
        return new RemoveCopyStoreResponse();
    }

    public async ValueTask<StartCopyResponse> StartCopyAsync(StartCopyRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new StartCopyResponse { Job = AdminMessages.ToMessage(await service.StartAsync(request, cancellationToken), null) };
    }

    /// <summary>A relative path would mean another folder with each start of the controller.</summary>
    private static StoreLocation ParseLocation(string text)
    {
        _ = WireText.Bounded(text, LocationCharsMax, "location");
        return text.Length > 0 && (text.Contains("://", StringComparison.Ordinal) || Path.IsPathFullyQualified(text))
            ? StoreLocation.Parse(text)
            : throw new FaultException(FaultReason.InvalidArgument, "A copy store is at a folder's absolute path on the controller's host, at s3://BUCKET/PREFIX or at azure://ACCOUNT/CONTAINER/PREFIX.");
    }
}
